import dataclasses

import jax
import pytest
from helpers.tiny_decoder import ARCHITECTURE

from haepo_jax.errors import ConfigError
from haepo_jax.language.training import memory
from haepo_jax.language.training.memory import Case, Memory, list_cases, measure, measure_all
from haepo_jax.runs.json_files import read_json


@pytest.fixture
def tiny(monkeypatch):
    """Every shape is a decoder of a few thousand parameters."""
    monkeypatch.setattr(
        memory,
        "make_architecture_of_shape",
        lambda shape, vocab: dataclasses.replace(ARCHITECTURE, vocab_size=vocab),
    )


def temporaries(way, count, method="haepo", length=128, vocab=512):
    return measure(Case("tiny", method, way, count, length, vocab)).temporaries


def test_the_total_is_what_must_be_there_at_once():
    assert Memory(arguments=10, outputs=7, temporaries=5, aliased=6).total == 16


def test_cases_vary_one_thing_at_a_time_and_hold_every_method():
    for shape in ("40M", "0.6B"):
        every = list(list_cases(shape))
        assert len(every) == len(set(every))
        assert {case.method for case in every} == {"haepo", "grpo", "rloo", "dpo"}
        assert {case.num_responses for case in every} == {4, 8, 16, 32, 64}


@pytest.mark.slow
def test_two_passes_need_no_more_for_more_responses(tiny):
    few, many = temporaries("two_pass", 4), temporaries("two_pass", 64)
    assert many <= 1.3 * few  # at this size the batch itself counts
    assert temporaries("naive", 64) >= 10 * temporaries("naive", 4)
    assert many < 0.05 * temporaries("naive", 64)


@pytest.mark.slow
def test_the_losses_alone_make_no_difference(tiny):
    haepo, grpo, dpo = (temporaries("naive", 16, method) for method in ("haepo", "grpo", "dpo"))
    assert haepo == pytest.approx(grpo, rel=0.01)
    assert haepo == pytest.approx(dpo, rel=0.15)  # which compares nothing with how it was sampled


@pytest.mark.slow
def test_what_was_measured_is_kept(tiny, tmp_path, capsys):
    some = [Case("40M", "haepo", way, 4, 16, 32) for way in ("naive", "two_pass")]
    rows = measure_all(tmp_path / "new", some)
    assert read_json(tmp_path / "new" / "memory.json")["rows"] == rows
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert measure_all(tmp_path / "new", some) == rows
    assert capsys.readouterr().out == ""
    (row,) = (row for row in rows if row["way"] == "naive")
    assert row["total"] == row["arguments"] + row["outputs"] + row["temporaries"] - row["aliased"]


@pytest.mark.slow
def test_a_program_is_compiled_for_the_device_that_is_asked_for(tiny, tmp_path):
    case = Case("40M", "haepo", "two_pass", 4, 16, 32)
    assert measure(case, jax.devices()[-1]) == measure(case)


def test_what_does_not_fit_has_a_row_without_sizes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "measure", lambda case, device: None)
    (row,) = measure_all(tmp_path, [Case("40M", "haepo", "naive", 4, 16, 32)])
    assert row["total"] is None and row["temporaries"] is None
    assert "does not fit" in capsys.readouterr().out


def test_a_topology_that_cannot_be_compiled_for_is_refused(monkeypatch):
    def refuse(name, platform):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(memory.topologies, "get_topology_desc", refuse)
    with pytest.raises(
        ConfigError, match=r"--topology=v5e:9x9 cannot be compiled for \(no such thing\); it is a name"
    ):
        memory.describe_topology_device("v5e:9x9")


@pytest.mark.slow
def test_the_shape_of_40_million_parameters():
    case = Case("40M", "haepo", "two_pass", 8, 512, 32_768)
    eight = measure(case).temporaries
    assert measure(case._replace(num_responses=64)).temporaries <= 1.05 * eight
    naive = measure(case._replace(method="grpo", way="naive", num_responses=32)).temporaries
    assert measure(case._replace(num_responses=32)).temporaries <= 0.1 * naive

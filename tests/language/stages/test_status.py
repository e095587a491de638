"""How a stage's folder stands, whatever part of it is missing."""

import shutil

import pytest
from helpers.command_runner import Command

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.stages.evaluation import list_finished_runs
from haepo_jax.language.stages.models import find_policy_folder
from haepo_jax.language.stages.status import find_divergence, find_model, is_finished
from haepo_jax.runs.folder import write_json

CLOCK = {"compile_seconds": 1.0, "run_seconds": 1.0}


def stage(folder, model="model", **summary):
    """A finished stage's folder, with a model from elsewhere."""
    (folder / model).mkdir(parents=True)
    write_json(folder / model / "config.json", {})
    (folder / model / "model.safetensors").touch()
    write_json(
        folder / "summary.json",
        {"stage": "rl", "status": "ok", "diverged_at": None, "updates": 3, "tokens": 9, "wall_clock": CLOCK} | summary,
    )
    return folder


def diverged(folder):
    return stage(folder, model="model_before_divergence", status="diverged", diverged_at=2)


def test_a_stage_is_finished_with_its_summary_and_its_model(tmp_path):
    folder = stage(tmp_path / "a")
    assert is_finished(folder) and find_divergence(folder) is None and find_model(folder) == folder / "model"
    assert not is_finished(tmp_path / "none") and find_divergence(tmp_path / "none") is None


def test_a_stage_that_diverged_is_finished_and_has_no_model_by_that_name(tmp_path):
    folder = diverged(tmp_path / "a")
    assert (
        is_finished(folder) and find_divergence(folder) == 2 and find_model(folder).name == "model_before_divergence"
    )


@pytest.mark.parametrize("lost", ["model", "model/config.json", "model/model.safetensors", "summary.json"])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_stage_is_not_finished_where_something_is_missing(tmp_path, lost, sealed):
    folder = stage(tmp_path / "a")
    if sealed:
        sums = {"config.json": 1, "model.safetensors": 2}
        write_json(folder / "model" / "haepo_jax.json", {"checksums": sums, "facts": {}})
        assert is_finished(folder)
    shutil.rmtree(folder / lost) if lost == "model" else (folder / lost).unlink()
    assert not is_finished(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "ok"}', "[" * 10**5])
def test_a_damaged_summary_counts_as_missing(tmp_path, text):
    folder = stage(tmp_path / "a")
    (folder / "summary.json").write_text(text)
    assert not is_finished(folder)


def test_runs_that_diverged_or_are_not_finished_are_not_compared(tmp_path, capsys):
    stage(tmp_path / "rl" / "good")
    diverged(tmp_path / "rl" / "bad")
    shutil.rmtree(stage(tmp_path / "rl" / "lost") / "model")
    (tmp_path / "rl" / "begun").mkdir()
    (tmp_path / "rl" / "a file").touch()
    assert list_finished_runs(tmp_path) == ["good"]
    assert capsys.readouterr().err == "Leaves out bad, which diverged at update 2.\n"


def test_the_command_exits_with_3_whenever_its_run_diverged(tmp_path):
    diverged(tmp_path / "rl" / "bad")
    finished = Command(
        "experiments.tldr",
        "--config=configs/tldr_generated.py",
        f"--workdir={tmp_path}",
        "--stage=rl",
        "--config.name=bad",
    ).wait()
    assert finished.code == 3, finished.err
    assert f"{tmp_path / 'rl' / 'bad'} diverged at update 2 already; nothing to do." in finished.out


def test_a_stage_does_not_build_on_one_that_diverged(tmp_path):
    diverged(tmp_path / "sft")
    with pytest.raises(
        ConfigError, match=r"^The stage sft in .*sft diverged at update 2, so that there is no model to "
    ):
        find_policy_folder(LanguageConfig(), tmp_path)

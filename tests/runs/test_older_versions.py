"""A run of version 0.1 as `tests/data/run_of_0.1.tar.gz` keeps it, and what that version computed of it.

`run/` is a sweep of two learning rates of which one diverges, stopped after update 2 of 4; `expected/` is what
`experiments.evaluate --episodes=5` found there, and what the same run ended with where nothing stopped it.
"""

import json
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haepo_jax
from haepo_jax.config import differing_fields, from_config_dict, to_json
from haepo_jax.config.sweep import from_record
from haepo_jax.errors import ConfigError
from haepo_jax.population import memory
from haepo_jax.runs import checksums
from haepo_jax.runs.evaluation import measure
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.files import read_identity, read_record, read_summary
from haepo_jax.runs.metrics.reader import read_rows
from haepo_jax.runs.older_versions import upgrade_arrays, upgrade_config, upgrade_structure, upgrade_summary
from haepo_jax.runs.placement import Placement, place_groups
from haepo_jax.runs.states import load_states

DATA = Path(__file__).parents[1] / "data" / "run_of_0.1.tar.gz"


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(DATA) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def workdir(folder):
    return folder / "run"


def expected(folder, name):
    return json.loads((folder / "expected" / f"{name}.json").read_text())


def resume(workdir):
    return run_sweep(from_record(read_record(workdir)), workdir)


@pytest.mark.slow
def test_a_run_of_0_1_is_evaluated_as_it_was_then(folder, workdir):
    found, then = measure(workdir, episodes=5), expected(folder, "evaluation")
    assert [member["status"] for member in found["members"]] == ["ok", "diverged"]
    for member, before in zip(found["members"], then["members"], strict=True):
        assert member.keys() == before.keys()
        for name, value in before.items():
            assert member[name] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.slow
def test_a_run_of_0_1_resumes_to_what_it_ends_with_where_nothing_stops_it(folder, workdir, capsys):
    assert resume(workdir)
    said = capsys.readouterr().out
    assert f"computed with haepo_jax 0.1.0, and this is haepo_jax {haepo_jax.__version__}" in said
    assert "Resuming after update 2 of 4" in said
    metrics = expected(folder, "metrics")
    rows = read_rows(workdir, tuple(metrics))
    order = np.lexsort((rows.update, rows.member))
    for name, values in metrics.items():
        np.testing.assert_allclose(rows.columns[name][order], np.array(values, float), rtol=1e-4, err_msg=name)
    summary, then = read_summary(workdir), expected(folder, "summary")
    assert [member["diverged_at"] for member in summary["members"]] == [m["death_update"] for m in then["members"]]
    # From now on an update that changes is refused again.
    assert {program["haepo_jax"] for program in read_identity(workdir)["programs"].values()} == {haepo_jax.__version__}
    assert read_identity(workdir)["haepo_jax"] == "0.1.0"


def test_a_run_of_before_the_device_cut_programs_keeps_its_cut_and_its_precision(workdir, tmp_path, monkeypatch):
    """Here as on a device that would choose another cut for a run that begins."""
    noted, record = (json.loads((workdir / name).read_text()) for name in ("placement.json", "config.json"))
    assert not {"piece_rows", "unrolled_steps"} & noted.keys() and "precision" not in record
    monkeypatch.setattr(memory, "ROWS", 256)
    monkeypatch.setattr(memory, "_UNROLLED_STEPS", {jax.default_backend(): 5})
    sweep = from_record(read_record(workdir))
    for folder, cut in ((workdir, (128, 1)), (tmp_path / "new", (256, 5))):
        populations, keeps = place_groups(folder, sweep, Placement())
        assert {(each.config.piece_rows, each.config.unrolled_steps) for each in populations} == {cut}
        assert {each.config.precision for each in populations} == {"default"}
        assert tuple({*keeps[name].values()} for name in ("piece_rows", "unrolled_steps")) == ({cut[0]}, {cut[1]})


def test_another_precision_than_that_of_a_run_of_before_is_refused(workdir):
    sweep = from_record(read_record(workdir) | {"precision": "float32"})
    with pytest.raises(ConfigError, match=r"another config: precision \(was default, now float32\); use another"):
        run_sweep(sweep, workdir)


def test_a_finished_run_of_0_1_is_complete(folder, workdir):
    (folder / "expected" / "summary.json").rename(workdir / "summary.json")
    assert [member["diverged_at"] for member in read_summary(workdir)["members"]] == [None, 0]


def test_a_member_that_had_diverged_under_0_1_has_diverged(workdir):
    [(population, state, done)] = load_states(workdir)
    assert done == 2 and state.learner.params["MLP_0"]["Dense_0"]["kernel"].shape[1:] == (4, 4)
    np.testing.assert_array_equal(population.here(state.diverged), [False, True])
    np.testing.assert_array_equal(population.here(state.diverged_at), [-1, 0])


def test_the_checksums_of_a_checkpoint_of_0_1_are_verified(workdir, monkeypatch, capsys):
    compute = checksums.compute
    monkeypatch.setattr(checksums, "compute", lambda arrays, start: compute(arrays, start) + 1)
    with pytest.raises(ConfigError, match="holds no good checkpoint"):
        list(load_states(workdir))
    assert "the checksum does not hold for member 0" in capsys.readouterr().out


def test_a_checkpoint_of_another_network_is_refused_with_both_versions(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["policy"]["hidden_sizes"] = [5]
    (workdir / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as raised:
        list(load_states(workdir))
    assert "is of another structure" in str(raised.value)
    begun = "The run was begun with haepo_jax 0.1.0 (commit 3b2c0131cb), and this is "
    assert f"{begun}{haepo_jax.__version__}." in str(raised.value)


def test_a_setting_that_another_version_had_is_refused_with_both_versions(workdir):
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(config | {"bygone": 3}))
    with pytest.raises(
        ConfigError, match=r"config\.bygone is not a setting.* begun with haepo_jax 0\.1\.0 .* and this is "
    ):
        list(load_states(workdir))
    identity = json.loads((workdir / "run.json").read_text())
    (workdir / "run.json").write_text(json.dumps(identity | {"haepo_jax": haepo_jax.__version__}))
    with pytest.raises(ConfigError, match=r"config\.bygone is not a setting\.$"):
        list(load_states(workdir))


def test_arrays_of_before_0_2_have_their_names_and_meaning_of_now():
    old = {"alive": np.array([True, False]), "death_update": np.array([-1, 3]), "learner.params": np.ones(2)}
    new = upgrade_arrays(old)
    assert new.keys() == {"diverged", "diverged_at", "learner.params"}
    np.testing.assert_array_equal(new["diverged"], [False, True])
    np.testing.assert_array_equal(new["diverged_at"], [-1, 3])
    assert upgrade_structure({"alive": ["bool", []], "death_update": ["int32", []]}) == {
        "diverged": ["bool", []],
        "diverged_at": ["int32", []],
    }
    assert upgrade_arrays(new) == new


def test_a_traced_setting_that_came_after_a_checkpoint_has_its_default_for_every_member():
    old = {"settings.haepo.kl_coef": np.array([0.1, 0.2], np.float32), "diverged": np.array([False, True])}
    new = upgrade_arrays(old)
    np.testing.assert_array_equal(new["settings.haepo.kl_coef"], old["settings.haepo.kl_coef"])
    assert new["settings.grpo.clip_epsilon"].tolist() == [np.float32(0.2)] * 2
    assert new["settings.haepo.reference_period"].dtype == np.int32
    described = upgrade_structure({name: [str(array.dtype), []] for name, array in old.items()})
    assert described == {name: [str(array.dtype), []] for name, array in new.items()}
    placed = upgrade_arrays({name: jnp.asarray(array) for name, array in old.items()})
    assert placed["settings.grpo.clip_epsilon"].sharding == placed["diverged"].sharding
    of_a_language_model = {"trained.kernel": np.ones(2)}
    assert upgrade_arrays(of_a_language_model) == of_a_language_model


OF_NO_CHOICE = {"projection": "reverse", "target": "boltzmann", "adapt": "fixed"}


def test_haepo_of_before_it_could_adapt_is_as_it_was_then_whatever_the_defaults_are():
    then = {"kl_coef": 0.1, "reference": "frozen"}
    now = upgrade_config({"algorithm": "haepo", "haepo": then})
    assert now["haepo"] == then | OF_NO_CHOICE | {"history": 0}
    assert upgrade_config(now) == now
    on_language = upgrade_config({"algorithm": "haepo", "haepo": {"kl_coef": 0.1}, "rl": {}})
    assert on_language == {"algorithm": "haepo", "haepo": {"kl_coef": 0.1} | OF_NO_CHOICE, "rl": {}}


def test_a_run_of_before_the_target_could_be_chosen_has_the_boltzmann_one():
    for record in ({"algorithm": "haepo", "env": "CartPole-v1"}, {"algorithm": "haepo", "rl": {}}):
        then = record | {"haepo": {"projection": "forward", "adapt": "ess", "history": 7}}
        assert upgrade_config(then)["haepo"] == then["haepo"] | {"target": "boltzmann"}


def test_a_run_of_0_1_plays_the_batches_that_it_played_then(workdir):
    config = from_config_dict(read_record(workdir))
    assert config.min_batch_steps is None and config.exploration.persistences == ()
    assert (config.haepo.adapt, config.haepo.projection, config.haepo.history) == ("fixed", "reverse", 0)
    assert differing_fields(read_record(workdir), to_json(config)) == []


@pytest.mark.parametrize(
    ("search", "differs"),
    [
        ({}, False),
        ({"sweep": {"algorithm": ["haepo", "ppo"]}}, True),
        ({"search": {"points": [{"algorithm": "haepo"}]}}, True),
    ],
    ids=["none", "grid", "list"],
)
def test_what_nothing_reads_does_not_hold_a_run_up(search, differs):
    now = to_json(from_config_dict({"algorithm": "ppo"})) | search
    before = now | {"haepo": now["haepo"] | {"adapt": "fixed"}}
    assert differing_fields(before, now) == ["haepo.adapt (was fixed, now ess)"] * differs
    plays_on = now | {"exploration": now["exploration"] | {"persistences": []}}
    assert bool(differing_fields(plays_on, now)) == differs


def test_files_of_now_stay_as_they_are():
    summary = {"members": [{"diverged_at": 3}], "env_steps": 5}
    assert upgrade_summary(summary) == summary
    record = {"algorithm": "ppo", "ppo": {"clip_epsilon": 0.2, "value_clip_epsilon": None}}
    assert upgrade_config(record) == record


@pytest.mark.parametrize("damaged", [{}, {"algorithm": 3}, {"algorithm": "ppo", "ppo": 3}, {"members": 3}])
def test_damaged_files_are_left_to_their_readers(damaged):
    assert upgrade_config(damaged) == damaged and upgrade_summary(damaged) == damaged

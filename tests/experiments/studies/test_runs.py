"""Runs are done once and kept; what is damaged, missing or of another config is done again, and nothing else."""

import errno
import json
import multiprocessing
import shutil
import signal

import numpy as np
import pyarrow.dataset
import pytest
from helpers.made_up_runs import SMALL, UPDATES, Trainer, contents, damage, empty, remove, truncate
from helpers.settings import fixed_config

from experiments.studies import runs as study_runs
from experiments.studies.methods import nest_settings
from experiments.studies.paper.scale import QUICK
from experiments.studies.runs import Look, Runs
from haepo_jax.config import from_config_dict, to_json
from haepo_jax.config.members import make_members
from haepo_jax.config.sweep import of_experiment
from haepo_jax.errors import ConfigError, Interrupted, StorageError
from haepo_jax.runs.identity import open_run
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.progress import ProgressReport

PLAIN = {"num_seeds": 2, "num_updates": 12, "optimizer.learning_rate": 1e-3}
TINY = {
    "env": "GaussianBandit-haepo",
    "env_kwargs.num_arms": 3,
    "num_seeds": 2,
    "num_updates": 24,
    "num_trajectories": 2,
    "policy.hidden_sizes": (4,),
    "algorithm": "reinforce",
    "sweep.env_params.instance": (0, 1),
}


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Runs are made up, and each is another one: its metrics count the runs before it."""
    made_up = Trainer(lambda config, member: np.arange(UPDATES) + 100.0 * member.seed, tmp_path)
    monkeypatch.setattr(study_runs, "run_sweep", made_up)
    return made_up


@pytest.fixture
def two_runs(trainer, tmp_path):
    """The folder of two finished runs."""
    runs = Runs(tmp_path / "all", SMALL)
    runs.get("task/damaged", PLAIN)
    runs.get("task/neighbour", PLAIN | {"seed": 5})
    trainer.configs.clear()
    return tmp_path / "all" / "runs" / "task"


def ask_for_both(folder, changes=()):
    runs = Runs(folder.parent.parent, SMALL)
    found = runs.get("task/damaged", PLAIN | dict(changes))
    runs.get("task/neighbour", PLAIN | {"seed": 5})
    return found


def table(workdir):
    rows = pyarrow.dataset.dataset(workdir / "metrics", format="parquet").to_table()
    return rows.sort_by([("member", "ascending"), ("update", "ascending")])


def test_a_run_is_done_once_and_kept(two_runs, trainer):
    before = contents(two_runs)
    ask_for_both(two_runs)
    assert trainer.configs == []
    assert contents(two_runs) == before


def test_a_sealed_run_has_no_checkpoints(two_runs):
    names = {path.name for path in (two_runs / "damaged").iterdir()} - {".lock"}
    expected = {"config.json", "members.json", "run.json", "metrics", "provenance.json", "summary.json", "seal.json"}
    assert names == expected
    assert set(json.loads((two_runs / "damaged" / "seal.json").read_text())) == {
        *("config.json", "members.json", "provenance.json", "summary.json"),
        "metrics/part-00000-00000000-00000000.parquet",
    }


def test_what_was_measured_of_the_policies_is_kept_under_the_seal_and_measured_again_with_the_run(trainer, tmp_path):
    looks = []

    def measure(path):
        assert (path / "checkpoints").is_dir()  # they go afterwards
        looks.append(path)
        return {"points": [1.0, 2.0]}

    def ask():
        return Runs(tmp_path / "all", SMALL).get("one", PLAIN, Look(2, measure)).policies

    assert ask() == ask() == {"points": [1.0, 2.0]}
    assert len(looks) == 1 and not (looks[0] / "checkpoints").exists()
    damage(looks[0] / "policies.json")
    assert ask() == {"points": [1.0, 2.0]} and len(looks) == 2


def test_the_runs_asked_for_are_listed(trainer, tmp_path):
    runs = Runs(tmp_path, SMALL)
    runs.get("b", PLAIN)
    runs.get("a", PLAIN)
    assert runs.done == dict.fromkeys(["b", "a"], of_experiment(from_config_dict(nest_settings(PLAIN))))


@pytest.mark.parametrize("name", ["config.json", "members.json", "provenance.json", "summary.json", "metrics"])
@pytest.mark.parametrize("harm", [damage, truncate, empty, remove])
def test_a_damaged_run_is_done_again_alone(two_runs, trainer, capsys, harm, name):
    whole, neighbour = table(two_runs / "damaged"), contents(two_runs / "neighbour")
    path = two_runs / "damaged" / name
    harm(next(path.glob("*.parquet")) if name == "metrics" else path)
    ask_for_both(two_runs)
    assert [config.seed for config in trainer.configs] == [0]
    assert table(two_runs / "damaged").equals(whole)
    assert contents(two_runs / "neighbour") == neighbour
    assert f"{two_runs / 'damaged'} is damaged: its seal does not hold. It is done again." in capsys.readouterr().out
    trainer.configs.clear()
    ask_for_both(two_runs)
    assert trainer.configs == []


@pytest.mark.parametrize("harm", [damage, truncate, empty])
def test_a_run_with_a_damaged_seal_is_done_again_alone(two_runs, trainer, harm):
    neighbour = contents(two_runs / "neighbour")
    harm(two_runs / "damaged" / "seal.json")
    ask_for_both(two_runs)
    assert [config.seed for config in trainer.configs] == [0]
    assert contents(two_runs / "neighbour") == neighbour


def test_a_strange_part_among_the_metrics_is_damage(two_runs, trainer):
    part = next((two_runs / "damaged" / "metrics").iterdir())
    shutil.copy(part, part.with_name("part-00000-00000099.parquet"))
    found = ask_for_both(two_runs)
    assert len(trainer.configs) == 1
    assert found.metric("episode_return").shape == (2, UPDATES)


def test_a_missing_run_is_done_alone(two_runs, trainer):
    neighbour = contents(two_runs / "neighbour")
    shutil.rmtree(two_runs / "damaged")
    ask_for_both(two_runs)
    assert [config.seed for config in trainer.configs] == [0]
    assert contents(two_runs / "neighbour") == neighbour


def test_a_run_killed_just_before_its_seal_is_sealed_as_it_is(two_runs, trainer):
    (two_runs / "damaged" / "seal.json").unlink()
    (two_runs / "damaged" / "checkpoints").mkdir()
    before = contents(two_runs)
    ask_for_both(two_runs)
    assert trainer.configs == []
    after = contents(two_runs)
    assert after.pop("damaged/seal.json")
    assert after == before
    assert not (two_runs / "damaged" / "checkpoints").exists()


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(("scale", "own", "other"), [(SMALL, "full", "quick"), (QUICK, "quick", "full")])
def test_a_sound_run_of_other_settings_is_refused_and_kept(two_runs, trainer, sealed, scale, own, other):
    if not sealed:
        (two_runs / "damaged" / "seal.json").unlink()
        (two_runs / "damaged" / "checkpoints").mkdir()
    before = contents(two_runs)
    with pytest.raises(ConfigError) as error:
        Runs(two_runs.parent.parent, scale).get("task/damaged", PLAIN | {"num_seeds": 3})
    for words in (str(two_runs / "damaged"), "num_seeds (was 2, now 3)", f"the {other} study", f"the {own} one"):
        assert words in str(error.value)
    assert trainer.configs == [] and contents(two_runs) == before
    assert sealed or (two_runs / "damaged" / "checkpoints").is_dir()


def test_a_setting_that_an_earlier_version_did_not_have_makes_no_other_run(two_runs, trainer):
    config = two_runs / "damaged" / "config.json"
    record = json.loads(config.read_text())
    assert record["ppo"].pop("target_kl", None) is None and record.pop("max_env_steps") is None
    config.write_text(json.dumps(record))
    (two_runs / "damaged" / "seal.json").unlink()
    ask_for_both(two_runs)
    assert trainer.configs == []


def hold(folder, config, started, done):
    with open_run(folder, to_json(config), [member.to_json() for member in make_members(config)]):
        started.set()
        done.wait()


def test_a_run_that_another_process_is_doing_is_left_to_it(trainer, tmp_path):
    folder, context = tmp_path / "runs" / "x", multiprocessing.get_context("spawn")
    started, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(folder, from_config_dict(nest_settings(PLAIN)), started, done))
    holder.start()
    assert started.wait(60)
    before = contents(folder)
    try:
        with pytest.raises(ConfigError, match="is in use by another run"):
            Runs(tmp_path, SMALL).get("x", PLAIN)
        assert contents(folder) == before
    finally:
        done.set()
        holder.join(60)


def test_a_damaged_run_whose_removal_was_cut_short_is_done_again(two_runs, trainer, monkeypatch):
    whole = table(two_runs / "damaged")
    part = next((two_runs / "damaged" / "metrics").iterdir())
    part.write_bytes(b"")

    def cut_short(path, **options):
        (path / "seal.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_short)
        with pytest.raises(KeyboardInterrupt):
            ask_for_both(two_runs)
    ask_for_both(two_runs)
    assert table(two_runs / "damaged").equals(whole)


def test_a_damaged_run_that_cannot_be_removed_is_refused_in_a_sentence(two_runs, monkeypatch):
    damage(two_runs / "damaged" / "summary.json")

    def refuse(path, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        ask_for_both(two_runs)


def test_settings_that_are_not_allowed_leave_nothing(trainer, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.haepo\.scoer is not a setting"):
        Runs(tmp_path, SMALL).get("x", {"haepo.scoer": "sum"})
    assert not (tmp_path / "runs").exists()


def test_an_environment_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="env 'CartPol-v1' is not known"):
        Runs(tmp_path, SMALL).get("x", {"env": "CartPol-v1"})
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_done_again_is_the_same_to_the_last_bit(tmp_path, monkeypatch, capsys):
    """Really trained: damaged, done again, interrupted in that, and resumed."""
    runs, folder = Runs(tmp_path, SMALL), tmp_path / "runs" / "bandit"
    runs.get("bandit", TINY)
    whole, summary = table(folder), read_json(folder / "summary.json")["members"]
    damage(next((folder / "metrics").iterdir()))
    signals = [signal.SIGTERM]  # a second one would end the tests

    def interrupt(self, *args, **kwargs):
        if signals:
            signal.raise_signal(signals.pop())

    with monkeypatch.context() as patch:
        patch.setattr(ProgressReport, "show", interrupt)
        with pytest.raises(Interrupted):
            runs.get("bandit", TINY)
    assert "is done again" in capsys.readouterr().out
    assert not (folder / "seal.json").exists() and not (folder / "summary.json").exists()
    begun = contents(folder / "metrics")
    assert begun
    run = runs.get("bandit", TINY)
    assert "Resuming after update" in capsys.readouterr().out
    assert begun.items() < contents(folder / "metrics").items()
    assert (folder / "seal.json").exists() and not (folder / "checkpoints").exists()
    assert table(folder).equals(whole)
    assert run.summary["members"] == summary
    assert len(run.seconds()) == TINY["num_updates"] and run.seconds()[0] > 0 and (np.diff(run.seconds()) > 0).all()


def test_settings_by_dotted_name_become_groups():
    settings = {
        "env": "GaussianBandit-haepo",
        "env_kwargs.num_arms": 3,
        "env_params.noise": 0.5,
        "haepo.score": "sum",
        "haepo.kl_coef": 0.1,
        "sweep.haepo.kl_coef": (0.0, 0.1),
        "sweep.env_params.instance": (1, 2),
        "sweep.discount": (1.0,),
    }
    assert nest_settings(settings) == {
        "env": "GaussianBandit-haepo",
        "env_kwargs": {"num_arms": 3},
        "env_params": {"noise": 0.5},
        "haepo": {"score": "sum", "kl_coef": 0.1},
        "sweep": {"haepo.kl_coef": (0.0, 0.1), "env_params.instance": (1, 2), "discount": (1.0,)},
    }
    config = fixed_config(nest_settings(settings))
    assert config.env_kwargs == {"num_arms": 3} and config.haepo.score == "sum"
    assert config.sweep == {"haepo.kl_coef": (0.0, 0.1), "env_params.instance": (1, 2), "discount": (1.0,)}
    assert fixed_config(to_json(config)) == config

"""Whole runs: the folder they leave, and what stopping, killing and damage do to it."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from helpers.command_runner import Command, run
from helpers.run_folders import assert_same_end, checkpoints, table, wait_for
from helpers.settings import fixed_config

from haepo_jax.config.sweep import of_experiment
from haepo_jax.errors import ConfigError
from haepo_jax.methods import haepo
from haepo_jax.runs.evaluation import evaluate
from haepo_jax.runs.experiment import run as train
from haepo_jax.runs.experiment import run_sweep
from haepo_jax.runs.metrics.reader import read_metric
from haepo_jax.runs.placement import Placement
from haepo_jax.runs.states import load_states

SMALL = (
    "--config=configs/catch.py",
    "--config.num_seeds=3",
    "--config.num_trajectories=4",
    "--config.policy.hidden_sizes=(8,)",
    "--config.haepo.num_epochs=2",
)
LONG = (*SMALL, "--config.num_updates=1000", "--checkpoint_seconds=0")


def _without_haepo(arguments):
    """For other algorithms, which refuse its settings."""
    return tuple(argument for argument in arguments if not argument.startswith("--config.haepo."))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run of the long settings that nobody touched."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    finished = run("experiments.train", *LONG, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    return workdir, finished


def test_the_folder_is_as_documented(finished_run):
    workdir, _ = finished_run
    names = {path.name for path in workdir.iterdir()}
    expected = {
        "config.json",
        "members.json",
        "run.json",
        "placement.json",
        "provenance.json",
        "metrics",
        "checkpoints",
    }
    assert names - {".lock"} == expected | {"summary.json", "learning_curve.png"}
    assert fixed_config(json.loads((workdir / "config.json").read_text())).num_updates == 1000


def test_the_memory_that_fits_is_reported_and_recorded(finished_run):
    workdir, finished = finished_run
    assert "Memory: remat, the fastest that fits." in finished.out
    assert json.loads((workdir / "placement.json").read_text())["memory"] == {"all": "remat"}


def test_every_member_and_update_has_one_row(finished_run):
    rows = table(finished_run[0])
    assert rows.num_rows == 3 * 1000
    np.testing.assert_array_equal(rows["member"], np.repeat([0, 1, 2], 1000))
    np.testing.assert_array_equal(rows["update"], np.tile(np.arange(1000), 3))
    assert {"seed", "env_steps", "episode_return", "episode_length", "loss", "grad_norm", "policy_entropy"} < set(
        rows.column_names
    )
    assert {"effective_sample_size", "max_weight", "weights_entropy", "weights_kl"} < set(rows.column_names)


def test_env_steps_are_cumulative(finished_run):
    steps = table(finished_run[0])["env_steps"].to_numpy().reshape(3, 1000)
    np.testing.assert_array_equal(steps, 4 * 9 * np.broadcast_to(np.arange(1, 1001), (3, 1000)))


def test_the_summary_agrees_with_the_metrics(finished_run):
    summary = json.loads((finished_run[0] / "summary.json").read_text())
    returns = table(finished_run[0])["episode_return"].to_numpy().reshape(3, 1000)
    assert [member["status"] for member in summary["members"]] == ["ok"] * 3
    np.testing.assert_allclose([m["final_return"] for m in summary["members"]], returns[:, -10:].mean(1), rtol=1e-6)
    np.testing.assert_allclose([m["best_return"] for m in summary["members"]], returns.max(1))
    assert summary["env_steps"] == 3 * 1000 * 4 * 9
    assert [member["env_steps"] for member in summary["members"]] == [1000 * 4 * 9] * 3
    assert summary["wall_clock"]["compile_seconds"] > 0 and summary["wall_clock"]["run_seconds"] > 0


def assert_as_good_as_at_the_end_of_training(workdir, evaluated):
    """Returns of Catch are -1 or 1: 5 standard errors are half of what lies between trained and untrained ones."""
    trained = [member["final_return"] for member in json.loads((workdir / "summary.json").read_text())["members"]]
    sampled = [member["sampled_return"] for member in evaluated]
    assert abs(np.mean(sampled) - np.mean(trained)) < 5 * np.sqrt((1 / 40 + 1 / 400) / 3)
    # A greedy policy catches no less often than it does with chance added, but for the same error.
    assert np.mean([member["greedy_return"] for member in evaluated]) > np.mean(sampled) - 5 * np.sqrt(2 / 400 / 3)


def test_the_table_and_the_figure_are_announced(finished_run):
    workdir, finished = finished_run
    assert "Catch-bsuite, haepo" in finished.out
    assert "learning_curve.png" in finished.out
    assert (workdir / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_progress_is_reported(finished_run):
    assert "updates 1000/1000" in finished_run[1].err
    assert "env steps/s" in finished_run[1].err


def test_a_complete_run_says_so_and_exits_0(finished_run):
    before = {path: path.stat().st_mtime_ns for path in finished_run[0].rglob("*") if path.name != ".lock"}
    again = run("experiments.train", *LONG, f"--workdir={finished_run[0]}")
    assert again.code == 0
    assert "is complete already; nothing to do." in again.out
    assert before == {path: path.stat().st_mtime_ns for path in finished_run[0].rglob("*") if path.name != ".lock"}


def test_another_config_is_refused_by_the_fields_that_differ(finished_run):
    refused = run(
        "experiments.train", *LONG, f"--workdir={finished_run[0]}", "--config.seed=9", "--config.discount=0.5"
    )
    assert refused.code == 2
    assert "holds a run with another config: discount (was 1.0, now 0.5), seed (was 0, now 9)" in refused.err


def test_evaluation_is_written_and_printed(finished_run):
    workdir, _ = finished_run
    evaluated = run("experiments.evaluate", f"--workdir={workdir}", "--episodes=400")
    assert evaluated.code == 0, evaluated.err
    result = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").unlink()
    assert result["update"] == 1000 and result["episodes"] == 400
    assert len(result["members"]) == 3
    assert_as_good_as_at_the_end_of_training(workdir, result["members"])
    assert "greedy" in evaluated.out and "sampled" in evaluated.out


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_one_left_alone(finished_run, tmp_path):
    workdir = tmp_path / "run"
    for kills in (1, 2):
        command = Command("experiments.train", *LONG, f"--workdir={workdir}")
        wait_for(lambda kills=kills: len(checkpoints(workdir)) >= kills)
        os.kill(command.pid, signal.SIGKILL)
        assert command.wait().code == -signal.SIGKILL
    finished = run("experiments.train", *LONG, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    assert "Resuming after update" in finished.out
    assert_same_end(workdir, finished_run[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_at_random_moments_end_alike(tmp_path):
    longer = (*LONG, "--config.num_updates=10000")
    started = time.monotonic()
    assert run("experiments.train", *longer, f"--workdir={tmp_path / 'alone'}").code == 0
    duration = time.monotonic() - started
    generator, kills = random.Random(0), 0
    while kills < 10:
        workdir = tmp_path / f"after_{kills}"
        command = Command("experiments.train", *longer, f"--workdir={workdir}")
        time.sleep(generator.uniform(0.0, duration))
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, signal.SIGKILL)
        if command.wait().code != -signal.SIGKILL:  # it had ended already
            shutil.rmtree(workdir)
            continue
        kills += 1
        finished = run("experiments.train", *longer, f"--workdir={workdir}")
        assert finished.code == 0, finished.err
        assert_same_end(workdir, tmp_path / "alone")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_makes_a_checkpoint_and_the_message_says_how_to_resume(finished_run, tmp_path, number, code):
    workdir = tmp_path / "run"
    command = Command("experiments.train", *LONG, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 1)
    os.kill(command.pid, number)
    stopped = command.wait()
    assert stopped.code == code
    assert "the same command resumes from there." in stopped.err
    update = checkpoints(workdir)[-1]
    assert f"Stopped after update {update} of 1000" in stopped.err
    assert run("experiments.train", *LONG, f"--workdir={workdir}").code == 0
    assert_same_end(workdir, finished_run[0])


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(finished_run, tmp_path):
    workdir = tmp_path / "run"
    command = Command("experiments.train", *LONG, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 3)
    os.kill(command.pid, signal.SIGTERM)
    command.wait()
    newest, before = checkpoints(workdir)[-1], checkpoints(workdir)[-2]
    for path in next(workdir.glob(f"checkpoints/members-*/{newest}")).rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    finished = run("experiments.train", *LONG, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    assert f"The checkpoint after update {newest} is damaged" in finished.out
    assert f"Resuming after update {before} of 1000." in finished.out
    assert_same_end(workdir, finished_run[0])


@pytest.mark.parametrize(("num_seeds", "are_listed"), [(3, True), (10**6, False)])
def test_what_a_run_needs_is_looked_at_once_and_before_very_many_members_are_listed(
    tmp_path, monkeypatch, num_seeds, are_listed
):
    seen, listed = [], []

    def refuse(config, num_members, **options):
        seen.append(num_members)
        raise ConfigError("too large")

    monkeypatch.setattr("haepo_jax.runs.experiment.sizes.check", refuse)
    monkeypatch.setattr(
        "haepo_jax.runs.experiment.of_experiment", lambda config: listed.append(config) or of_experiment(config)
    )
    with pytest.raises(ConfigError, match="too large"):
        train(fixed_config({"num_seeds": num_seeds}), tmp_path / "run")
    assert (seen, bool(listed)) == ([num_seeds], are_listed)


def test_a_folder_in_use_is_refused(tmp_path):
    workdir = tmp_path / "run"
    first = Command("experiments.train", *LONG, f"--workdir={workdir}")
    wait_for((workdir / "config.json").exists)
    second = run("experiments.train", *LONG, f"--workdir={workdir}")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.code == 2
    assert "is in use by another run" in second.err


def test_a_diverged_member_is_reported_and_the_others_finish(tmp_path):
    config = tmp_path / "diverging.py"
    config.write_text(
        "from configs import catch\n"
        "def get_config():\n"
        "    c = catch.get_config()\n"
        "    c.sweep = {'optimizer': {'learning_rate': (1e-3, 1e38)}}\n"
        "    return c\n"
    )
    arguments = [f"--config={config}", *SMALL[1:], "--config.num_updates=20", f"--workdir={tmp_path / 'run'}"]
    finished = run("experiments.train", *arguments)
    assert finished.code == 0, finished.err
    assert "Member 3 (seed=0, optimizer.learning_rate=1e+38) diverged at update" in finished.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [member["status"] for member in summary["members"]] == ["ok"] * 3 + ["diverged"] * 3
    assert summary["members"][3]["final_return"] is None
    assert summary["members"][3]["diverged_at"] is not None
    assert "learning_rate=1e+38" in finished.out


def test_a_run_that_diverges_as_a_whole_exits_3(tmp_path):
    arguments = [*SMALL, "--config.num_updates=5", "--config.optimizer.learning_rate=1e38"]
    finished = run("experiments.train", *arguments, f"--workdir={tmp_path / 'run'}")
    assert finished.code == 3
    assert "Every member diverged" in finished.out
    # Nothing is left to do once all are dead: the run ends there, and has no rows beyond.
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    deaths = [member["diverged_at"] for member in summary["members"]]
    assert max(deaths) < 4
    assert summary["num_updates"] == max(deaths) + 1
    rows = table(tmp_path / "run")
    assert rows.num_rows == sum(death + 1 for death in deaths)
    assert rows.filter(rows["diverged"])["update"].to_pylist() == deaths


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "reinforce"])
def test_an_algorithm_runs_by_its_name(tmp_path, algorithm):
    arguments = [*_without_haepo(SMALL), "--config.num_updates=3", f"--config.algorithm={algorithm}"]
    finished = run("experiments.train", *arguments, f"--workdir={tmp_path / 'run'}")
    assert finished.code == 0, finished.err
    assert f"Catch-bsuite, {algorithm}" in finished.out


PPO = (*_without_haepo(LONG), "--config.algorithm=ppo", "--config.ppo.num_steps=8", "--config.ppo.num_epochs=1")


@pytest.fixture(scope="module")
def ppo_run(tmp_path_factory):
    """A run of PPO that nobody touched."""
    workdir = tmp_path_factory.mktemp("ppo") / "run"
    finished = run("experiments.train", *PPO, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    return workdir


@pytest.mark.slow
def test_ppo_trains_and_is_evaluated(ppo_run):
    rows = table(ppo_run)
    assert rows.num_rows == 3 * 1000
    assert {"policy_loss", "value_loss", "clip_fraction", "approx_kl"} < set(rows.column_names)
    np.testing.assert_array_equal(rows["env_steps"].to_numpy()[:1000], 4 * 8 * np.arange(1, 1001))
    evaluated = run("experiments.evaluate", f"--workdir={ppo_run}", "--episodes=400")
    assert evaluated.code == 0, evaluated.err
    result = json.loads((ppo_run / "evaluation.json").read_text())
    assert_as_good_as_at_the_end_of_training(ppo_run, result["members"])


@pytest.mark.slow
def test_a_killed_run_of_ppo_resumes_in_the_midst_of_its_episodes(ppo_run, tmp_path):
    """An episode takes 9 steps and an update 8, so that a restart of the environments would show."""
    workdir = tmp_path / "run"
    command = Command("experiments.train", *PPO, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 2)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    finished = run("experiments.train", *PPO, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    assert "Resuming after update" in finished.out
    assert_same_end(workdir, ppo_run)


LIMIT = 60_000
LIMITED = (
    "--config=configs/cartpole.py",
    "--config.num_seeds=3",
    "--config.num_trajectories=4",
    "--config.horizon=30",
    "--config.policy.hidden_sizes=(8,)",
    "--config.haepo.num_epochs=1",
    "--config.num_updates=100000",
    f"--config.max_env_steps={LIMIT}",
    "--checkpoint_seconds=0",
)


@pytest.fixture(scope="module")
def limited_run(tmp_path_factory):
    """A run that ends by its environment steps, and that nobody touched."""
    workdir = tmp_path_factory.mktemp("limited") / "run"
    finished = run("experiments.train", *LIMITED, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    return workdir


def test_a_run_ends_once_every_member_has_taken_its_steps(limited_run):
    summary = json.loads((limited_run / "summary.json").read_text())
    updates = summary["num_updates"]
    steps = read_metric(limited_run, "env_steps")
    ends = (steps < LIMIT).sum(1) + 1  # updates until each is there
    assert ends.max() == updates < 100_000 and ends.min() < updates
    assert [member["env_steps"] for member in summary["members"]] == steps[:, -1].tolist()
    assert (steps[:, -1] < LIMIT + 4 * 30).all()
    for name in ("episode_return", "loss"):
        values = read_metric(limited_run, name)
        np.testing.assert_array_equal(np.isnan(values), np.arange(updates) >= ends[:, None])
    assert table(limited_run).num_rows == ends.sum()
    returns = read_metric(limited_run, "episode_return")
    for member, end in enumerate(ends):
        final = summary["members"][member]
        assert final["status"] == "ok"
        assert final["final_return"] == pytest.approx(returns[member, end - 10 : end].mean(), rel=1e-6)


@pytest.mark.slow
def test_a_limited_run_that_was_killed_ends_as_one_left_alone(limited_run, tmp_path):
    workdir = tmp_path / "run"
    command = Command("experiments.train", *LIMITED, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 2)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    finished = run("experiments.train", *LIMITED, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    assert_same_end(workdir, limited_run)
    left, right = (json.loads((folder / "summary.json").read_text()) for folder in (workdir, limited_run))
    assert left["members"] == right["members"] and left["num_updates"] == right["num_updates"]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "cause"), [("large", "environment steps"), ("small", "divergence")])
def test_a_run_ends_though_there_is_padding(tmp_path, monkeypatch, batch, cause):
    """Three members on eight devices: padding beside a member, and devices with nothing but padding."""
    monkeypatch.setattr("haepo_jax.population.layout.goes_in_tiles", lambda device, steps: batch == "large")
    values = {
        "env": "Catch-bsuite",
        "num_seeds": 3,
        "num_updates": 50,
        "num_trajectories": 2,
        "horizon": 9,
        "policy": {"hidden_sizes": (4,)},
    }
    divergence = {"optimizer": {"learning_rate": 1e38}}
    config = fixed_config(values | ({"max_env_steps": 40} if cause == "environment steps" else divergence))
    assert train(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    if cause == "divergence":
        expected = 1 + max(member["diverged_at"] for member in summary["members"])
    else:
        expected = 3  # of 2 episodes of 9 steps
        assert [member["env_steps"] for member in summary["members"]] == [54] * 3
    assert summary["num_updates"] == expected < 50
    assert not train(config, tmp_path / "run")


@pytest.mark.slow
def test_a_sweep_over_a_parameter_of_the_environment(tmp_path):
    walk = [
        *("--config=configs/catch.py", "--config.env=RandomWalk-haepo", "--config.policy.hidden_sizes=(4,)"),
        *("--config.num_seeds=2", "--config.num_trajectories=8", "--config.num_updates=3"),
        *("--config.env_params.length=3", "--config.sweep.env_params.slip=(0.0,1.0)", f"--workdir={tmp_path / 'run'}"),
    ]
    finished = run("experiments.train", *walk)
    assert finished.code == 0, finished.err
    members = json.loads((tmp_path / "run" / "members.json").read_text())
    assert [member["settings"] for member in members] == [{"env_params.slip": slip} for slip in (0, 0, 1, 1)]
    assert "slip=0 " in finished.out and "slip=1 " in finished.out
    rows = table(tmp_path / "run")
    np.testing.assert_array_equal(rows["env_params.slip"], np.repeat([0.0, 0.0, 1.0, 1.0], 3))
    np.testing.assert_array_equal(rows["success"], rows["episode_return"])
    lengths = rows["episode_length"].to_numpy().reshape(2, 6)
    assert not np.array_equal(*lengths)
    ((population, _, _),) = load_states(tmp_path / "run")
    assert (
        population.config.env_params == {"length": 3} and population.functions.environment.name == "RandomWalk-haepo"
    )
    refused = run("experiments.train", *walk, "--config.env_params.length=4")
    assert refused.code == 2
    assert "holds a run with another config: env_params.length (was 3, now 4)" in refused.err


def test_evaluation_plays_in_each_members_own_environment(tmp_path):
    """A goal that is one step away, and one that no episode is long enough for."""
    values = {
        "env": "RandomWalk-haepo",
        "num_seeds": 2,
        "num_updates": 1,
        "num_trajectories": 2,
        "horizon": 16,
        "policy": {"hidden_sizes": ()},
        "sweep": {"env_params.length": (1, 50)},
    }
    train(fixed_config(values), tmp_path / "run")
    members = evaluate(tmp_path / "run", episodes=20)["members"]
    assert [member["settings"]["env_params.length"] for member in members] == [1, 1, 50, 50]
    assert [round(member["sampled_return"]) for member in members] == [1, 1, 0, 0]


@pytest.mark.slow
def test_sum_normalisation_of_negative_returns_is_reported(tmp_path):
    arguments = [*SMALL, "--config.num_updates=5", "--config.haepo.normalization=sum"]
    finished = run("experiments.train", *arguments, f"--workdir={tmp_path / 'run'}")
    assert finished.code == 0, finished.err
    assert "the returns did not sum to a positive number" in finished.out


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB, to be filled; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(finished_run, small_disk):
    workdir = small_disk / "run"
    command = Command("experiments.train", *LONG, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 2)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    stopped = command.wait()
    assert stopped.code == 4
    assert "is on a full disk; what was written before is intact" in stopped.err
    assert "Traceback" not in stopped.err, stopped.err
    filler.unlink()
    finished = run("experiments.train", *LONG, f"--workdir={workdir}")
    assert finished.code == 0, finished.err
    assert "Resuming after update" in finished.out
    assert_same_end(workdir, finished_run[0])


@pytest.mark.slow
def test_a_disk_that_turns_read_only_stops_the_run(small_disk):
    workdir = small_disk / "run"
    command = Command("experiments.train", *LONG, f"--workdir={workdir}")
    wait_for(lambda: len(checkpoints(workdir)) >= 1)
    os.kill(command.pid, signal.SIGTERM)
    command.wait()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused = run("experiments.train", *LONG, f"--workdir={workdir}")
    assert refused.code == 2
    assert f"--workdir {workdir} cannot be written: Read-only file system." in refused.err


CATCH = {
    "env": "Catch-bsuite",
    "num_seeds": 2,
    "num_updates": 3,
    "num_trajectories": 2,
    "policy": {"hidden_sizes": ()},
}


def test_a_refused_placement_leaves_nothing(tmp_path):
    sweep, workdir = of_experiment(fixed_config(CATCH)), tmp_path / "deep" / "run"
    with pytest.raises(ConfigError, match="--trajectory_devices=3 does not divide"):
        run_sweep(sweep, str(workdir), placement=Placement(trajectory_devices=3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config": {}}, "config must be an ExperimentConfig, got {}; from_config_dict makes one."),
        ({"stall_seconds": "5"}, "stall_seconds must be a number of seconds above 0, got '5'."),
        ({"stall_seconds": float("nan")}, "stall_seconds must be a number of seconds above 0, got nan."),
        ({"stall_seconds": 0}, "stall_seconds must be a number of seconds above 0, got 0."),
        (
            {"checkpoint_seconds": float("nan")},
            "checkpoint_seconds must be a number of seconds of at least 0, got nan.",
        ),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds must be a number of seconds of at least 0, got -1."),
        ({"checkpoint_seconds": None}, "checkpoint_seconds must be a number of seconds of at least 0, got None."),
        ({"workdir": ""}, "workdir is empty; give a folder"),
        ({"workdir": None}, "workdir must be a path, got None."),
        ({"workdir": b"run"}, "workdir must be a path, got b'run'."),
    ],
)
def test_arguments_that_make_no_run_are_refused_before_anything_is_made(changes, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        train(**{"config": fixed_config(CATCH), "workdir": "run"} | changes)
    assert sentence in str(raised.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sweep": fixed_config(CATCH)}, "; sweeps.from_values and sweeps.of_experiment make one."),
        ({"placement": Placement(0)}, "members_per_device must be a whole number of at least 1, got 0."),
        ({"placement": Placement(2.5)}, "members_per_device must be a whole number of at least 1, got 2.5."),
        ({"placement": Placement(None, 0)}, "trajectory_devices must be a whole number of at least 1, got 0."),
        ({"placement": None}, "placement must be a Placement, got None."),
    ],
)
def test_a_sweep_of_arguments_that_make_none_is_refused_before_anything_is_made(changes, sentence, tmp_path):
    with pytest.raises(ConfigError) as raised:
        run_sweep(**{"sweep": of_experiment(fixed_config(CATCH)), "workdir": tmp_path / "run"} | changes)
    assert sentence in str(raised.value) and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_resumed_run_is_refused_where_its_loss_was_changed_or_its_files_are_gone(tmp_path, monkeypatch):
    config, workdir = fixed_config(CATCH), tmp_path / "run[seed=1]"
    assert train(config, str(workdir), checkpoint_seconds=0)
    (workdir / "summary.json").unlink()
    before = contents(workdir)

    def assert_refused(sentence):
        with pytest.raises(ConfigError, match=sentence):
            train(config, workdir)
        assert contents(workdir) == before

    with monkeypatch.context() as patch:
        patch.setattr(haepo, "haepo_loss", lambda *a, loss=haepo.haepo_loss, **o: doubled(loss(*a, **o)))
        assert_refused("was begun with other updates")
    (workdir / "metrics" / "part-00000-00000000-00000000.parquet").rename(tmp_path / "part")
    before = contents(workdir)
    assert_refused("metrics has lost rows of the run")
    (tmp_path / "part").rename(workdir / "metrics" / "part-00000-00000000-00000000.parquet")
    (workdir / "placement.json").rename(tmp_path / "placement")
    before = contents(workdir)
    assert_refused(r"placement\.json is missing")
    (tmp_path / "placement").rename(workdir / "placement.json")
    assert train(config, workdir)
    assert evaluate(workdir, episodes=2)["update"] == 3


def doubled(result):
    loss, terms = result
    return 2 * loss, terms


def contents(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}

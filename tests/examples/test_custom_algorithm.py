"""A method of one's own goes all the way that a built-in one goes, in a process that knows its name alone."""

import json
import os
import runpy
import signal
import time
from pathlib import Path

import pyarrow.dataset
import pytest
from helpers.command_runner import Command, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_algorithm.py"


@pytest.mark.slow
def test_the_example_learns_cartpole_in_a_program(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    assert runpy.run_path(str(EXAMPLE))["main"](num_updates=12) > 45


@pytest.mark.slow
def test_a_custom_algorithm_trains_is_killed_resumes_evaluates_sweeps_and_reports_elsewhere(tmp_path):
    own = tmp_path / "project" / "own_method.py"
    own.parent.mkdir()
    own.write_text(EXAMPLE.read_text().replace("custom_algorithm:METHOD", "own_method:METHOD"))
    start = (
        f"--config={own}",
        *("--config.num_seeds=2", "--config.num_trajectories=4", "--config.horizon=20"),
        "--config.policy.hidden_sizes=(8,)",
    )
    folder, killed, sweep = tmp_path / "run", tmp_path / "killed", tmp_path / "sweep"
    whole = (*start, "--config.num_updates=400")
    assert run("experiments.train", *whole, f"--workdir={folder}").code == 0
    record = json.loads((folder / "config.json").read_text())
    assert record["algorithm"] == "own_method:METHOD" and record["algorithm_params"]["temperature"] == 0.5

    command = Command("experiments.train", *whole, "--checkpoint_seconds=0", f"--workdir={killed}")
    while command.running and not any(path.name.isdigit() for path in killed.glob("checkpoints/*/*")):
        time.sleep(0.01)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL and not (killed / "summary.json").exists()
    assert run("experiments.train", *whole, f"--workdir={killed}").code == 0
    assert rows_of(killed) == rows_of(folder)

    assert run("experiments.evaluate", f"--workdir={folder}", "--episodes=4").code == 0
    swept = (*start, "--config.num_updates=4", "--config.sweep.algorithm_params.temperature=(0.1, 2.0)")
    assert run("experiments.sweep", *swept, f"--workdir={sweep}").code == 0
    rows = rows_of(sweep)
    assert {"algorithm_params.temperature", "imitation", "distance"} <= rows[0].keys()
    assert len({row["algorithm_params.temperature"] for row in rows}) == 2
    assert run("experiments.report", f"--workdir={sweep}").code == 0


def rows_of(folder):
    """The rows of a run's metrics, in order."""
    table = pyarrow.dataset.dataset(folder / "metrics").to_table()
    return table.sort_by([("member", "ascending"), ("update", "ascending")]).to_pylist()

"""A method of one's own goes all the way that a built-in one goes, in a process that knows its name alone."""

import json
import runpy
from pathlib import Path

import pyarrow.dataset
import pytest
from helpers.command_runner import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_algorithm.py"


def test_the_example_learns_cartpole_in_a_program(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    assert runpy.run_path(str(EXAMPLE))["main"](num_updates=12) > 45


@pytest.mark.slow
def test_it_trains_resumes_evaluates_sweeps_and_reports_from_another_folder(tmp_path):
    own = tmp_path / "project" / "own_method.py"
    own.parent.mkdir()
    own.write_text(EXAMPLE.read_text().replace("custom_algorithm:METHOD", "own_method:METHOD"))
    small = ("--config.num_seeds=2", "--config.num_trajectories=4", "--config.policy.hidden_sizes=(8,)")
    start = (f"--config={own}", *small, "--config.horizon=20")
    folder, sweep = tmp_path / "run", tmp_path / "sweep"
    assert run("experiments.train", *start, "--config.num_updates=6", f"--workdir={folder}").code == 0
    record = json.loads((folder / "config.json").read_text())
    assert record["algorithm"] == "own_method:METHOD" and record["algorithm_params"]["temperature"] == 0.5
    again = run("experiments.train", *start, "--config.num_updates=6", f"--workdir={folder}")
    assert again.code == 0 and "is complete already" in again.out + again.err
    assert run("experiments.evaluate", f"--workdir={folder}", "--episodes=4").code == 0
    swept = (*start, "--config.num_updates=4", "--config.sweep.algorithm_params.temperature=(0.1, 2.0)")
    assert run("experiments.sweep", *swept, f"--workdir={sweep}").code == 0
    table = pyarrow.dataset.dataset(sweep / "metrics").to_table()
    assert {"algorithm_params.temperature", "imitation", "distance"} <= set(table.column_names)
    assert len(set(table["algorithm_params.temperature"].to_pylist())) == 2
    assert run("experiments.report", f"--workdir={sweep}").code == 0

"""`python -m experiments.summarize` as its user has it."""

import json
import shutil

import pytest
from helpers.command_runner import run
from helpers.made_up_sweeps import RATES, UPDATES, grid, hump_that_diverges, write_sweep

from haepo_jax.runs.folder import lock_folder
from haepo_jax.runs.summary import summarize

POINTS = grid(optimizer__learning_rate=RATES)


def test_a_summary_is_made_again_from_the_metrics(tmp_path):
    write_sweep(tmp_path, POINTS, hump_that_diverges)
    written = tmp_path / "summary.json"
    written.unlink()
    finished = run("experiments.summarize", f"--workdir={tmp_path}")
    assert (finished.code, finished.complaints) == (0, "")
    first, finding, following = finished.out.splitlines()
    assert first == f"Written to {written}."
    assert finding.startswith("Of 6 settings learning_rate=0.003 has the highest final return: ")
    assert following == f"Next: python -m experiments.report --workdir={tmp_path}"
    summary = json.loads(written.read_text())
    assert summary == summarize(tmp_path)
    assert {member["status"] for member in summary["members"]} == {"ok", "diverged"}


def test_members_that_ran_out_of_environment_steps_have_ended(tmp_path):
    write_sweep(tmp_path, POINTS, hump_that_diverges, rows=lambda member: 3, complete=False, max_env_steps=1)
    assert run("experiments.summarize", f"--workdir={tmp_path}").code == 0
    assert len(json.loads((tmp_path / "summary.json").read_text())["members"]) == 4 * len(POINTS)


def no_run(folder):
    pass


def not_begun(folder):
    write_sweep(folder, POINTS, hump_that_diverges, rows=lambda member: 0, complete=False)


def one_short_of_an_update(folder):
    write_sweep(folder, POINTS, hump_that_diverges, rows=lambda member: UPDATES - (member.index == 2), complete=False)


def without_a_process(folder):
    write_sweep(folder, POINTS, hump_that_diverges, rows=lambda member: UPDATES * (member.index < 8), complete=False)


def another_config(folder):
    not_begun(folder)
    write_sweep(folder.parent / f"{folder.name}_other", POINTS, hump_that_diverges, seeds=3)
    shutil.copy(folder.parent / f"{folder.name}_other" / "config.json", folder)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (another_config, "members.json is not that of the run in config.json: its members differ."),
        (no_run, "holds no run: there is no config.json in it."),
        (not_begun, "lacks metrics of 24 of its members (0, 1, 2, 3, 4, ...): copy the parts"),
        (one_short_of_an_update, "lacks metrics of 1 of its members (2): copy the parts"),
        (without_a_process, "lacks metrics of 16 of its members (8, 9, 10, 11, 12, ...): copy the parts"),
    ],
)
def test_missing_metrics_are_named_and_nothing_is_written(tmp_path, make, sentence):
    make(tmp_path)
    finished = run("experiments.summarize", f"--workdir={tmp_path}")
    assert finished.code == 2
    assert sentence in finished.err and finished.err.count("\n") == 1
    assert not (tmp_path / "summary.json").exists()


def test_the_folder_of_a_running_run_is_left_alone(tmp_path):
    write_sweep(tmp_path, POINTS, hump_that_diverges)
    with lock_folder(tmp_path):
        finished = run("experiments.summarize", f"--workdir={tmp_path}")
    assert finished.code == 2 and "is in use by another run" in finished.err

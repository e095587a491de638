"""`python -m experiments.report` as its user has it."""

import numpy as np
import pytest
from helpers.command_runner import run
from helpers.made_up_sweeps import RATES, UPDATES, grid, hump_that_diverges, write_sweep

POINTS = grid(optimizer__learning_rate=RATES[2:], haepo__entropy_coef=(0.0, 5e-3))


def test_the_page_and_its_figures_are_written(tmp_path):
    folder = write_sweep(tmp_path / "sweep", POINTS, hump_that_diverges)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    finished = run("experiments.report", f"--workdir={folder}")
    assert (finished.code, finished.complaints) == (0, "")
    written, finding, following = finished.out.splitlines()
    assert written == f"Written to {folder / 'report.html'}."
    assert "entropy_coef" in finding and "has the highest final return" in finding
    assert following == f"Next: python -m experiments.evaluate --workdir={folder}"
    assert "learning_rate" in (folder / "report.html").read_text()
    written = sorted(path.name for path in (folder / "figures").glob("*.png"))
    assert written == ["best-1.png", "pairs-1.png", "sensitivity-1.png"]
    # The files from which the sweep itself resumes are as they were.
    assert {path: path.read_bytes() for path in before} == before


def test_a_running_sweep_is_reported_and_reported_again(tmp_path):
    write_sweep(tmp_path, POINTS, hump_that_diverges, rows=lambda member: 12, complete=False)
    assert run("experiments.report", f"--workdir={tmp_path}").code == 0
    assert "The sweep is not complete" in (tmp_path / "report.html").read_text()
    write_sweep(tmp_path, POINTS, hump_that_diverges)
    assert run("experiments.report", f"--workdir={tmp_path}").code == 0
    assert "The sweep is not complete" not in (tmp_path / "report.html").read_text()


def no_folder(folder):
    folder.rmdir()


def nothing(folder):
    pass


def not_begun(folder):
    write_sweep(folder, POINTS, hump_that_diverges, rows=lambda member: 0, complete=False)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_folder, "holds no run: there is no config.json in it."),
        (nothing, "holds no run: there is no config.json in it."),
        (not_begun, "holds a run that has written no metrics yet; ask again after its first updates."),
    ],
)
def test_a_folder_without_rows_is_refused_in_one_sentence(tmp_path, make, sentence):
    make(tmp_path)
    finished = run("experiments.report", f"--workdir={tmp_path}")
    assert finished.code == 2 and finished.out == ""
    assert finished.err == f"report: --workdir {tmp_path} {sentence}\n"
    assert not (tmp_path / "report.html").exists()


def test_runs_are_compared_in_a_folder_of_ones_own(tmp_path):
    folders = [
        write_sweep(tmp_path / name, [{}], lambda settings, seed, base=base: np.full(UPDATES, base + seed), seeds=5)
        for name, base in (("a", 10.0), ("b", 20.0))
    ]
    flags = [f"--workdir={folder}" for folder in folders]
    finished = run("experiments.report", *flags, f"--output={tmp_path / 'page'}")
    assert (finished.code, finished.complaints) == (0, "")
    written, finding = finished.out.splitlines()
    assert written == f"Written to {tmp_path / 'page' / 'report.html'}."
    assert finding.startswith("b has the highest final return, 22 [20.7, 23.7]. b is ahead of a by final return: ")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--workdir=", "--workdir is missing"),
        ("--workdir=a,--workdir=./a", "--workdir a and --workdir a are the same folder; give each run once."),
        ("--workdir=a,--output=setup.py", "--output=setup.py is a file; give a folder."),
        ("--wrkdir=x", "--wrkdir is not a flag; did you mean workdir?"),
        ("--config.seed=1", "--config.seed needs --config=FILE"),
    ],
)
def test_a_wrong_flag_is_refused(flag, sentence):
    finished = run("experiments.report", *flag.split(","))
    assert finished.code == 2 and sentence in finished.err and len(finished.err.splitlines()) == 1


def test_help_names_the_flags():
    finished = run("experiments.report", "--help")
    assert finished.code == 0 and "--workdir" in finished.out and "python -m experiments.report" in finished.out

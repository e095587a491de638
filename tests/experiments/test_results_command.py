"""`python -m experiments.results` as its user has it."""

import subprocess
import sys

import pytest
from helpers.command_runner import run
from helpers.quotable_folders import ROOT, write_study

BAD = {
    "a file": (["--race=FILE"], "--race=FILE is a file; give a folder."),
    "an empty folder": (["--benchmark=FOLDER"], "FOLDER/benchmark.json is missing."),
    "a flag given twice": (["--race=FOLDER", "--race=FILE"], "--race is given twice; give it once."),
    "a run folder": (["--workdir=FOLDER"], "--workdir is not a flag"),
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) for case in BAD])
def test_bad_input_gets_one_sentence(case, tmp_path):
    (tmp_path / "file").touch()
    places = {"FILE": tmp_path / "file", "FOLDER": tmp_path}

    def placed(text):
        for name, path in places.items():
            text = text.replace(name, str(path))
        return text

    arguments, sentence = BAD[case]
    command = [sys.executable, "-m", "experiments.results", *map(placed, arguments)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"results: {placed(sentence)}") and refused.stderr.count("\n") == 1


def test_a_quick_study_is_one_sentence_and_changes_nothing(tmp_path):
    study = write_study(tmp_path / "study", "paper", quick=True)
    refused = run("experiments.results", f"--paper={study}")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"results: {study} is a quick run, which decides nothing: documents quote full ones.\n"


@pytest.mark.slow
def test_help_names_the_flags():
    finished = run("experiments.results", "--help")
    assert finished.code == 0
    assert "--paper: Folder of experiments.paper." in finished.out
    assert "python -m experiments.results --runs=runs" in finished.out

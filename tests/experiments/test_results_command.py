"""`python -m experiments.results` as its user has it."""

from helpers.command_runner import run
from helpers.quotable_folders import write_study


def test_a_quick_study_is_one_sentence_and_changes_nothing(tmp_path):
    study = write_study(tmp_path / "study", "paper", quick=True)
    refused = run("experiments.results", f"--paper={study}")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"results: {study} is a quick run, which decides nothing: documents quote full ones.\n"

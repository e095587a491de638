"""`python -m experiments.benchmark`, `race` and `overheads` as their user has them: what is refused."""

import pytest
from helpers.command_runner import run


@pytest.mark.parametrize(
    ("command", "flags", "sentence"),
    [
        (
            "benchmark",
            ["--seeds=1,x"],
            "--seeds must be whole numbers with commas between, from 1 to 2147483647; got 'x'.",
        ),
        ("benchmark", ["--seeds=0"], "got '0'"),
        ("benchmark", ["--peer=rejax"], "--peer must be NAME=COMMAND, such as 'rejax=python rejax.py'; got 'rejax'."),
        ("benchmark", ["--repeats=0"], "--repeats=0"),
        ("race", ["--peer=rejax"], "--peer must be NAME=COMMAND, such as 'rejax=python rejax.py'; got 'rejax'."),
        ("race", ["--seeds=0"], "--seeds=0"),
        ("overheads", ["--part=gard"], "--part=gard"),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(tmp_path, command, flags, sentence):
    finished = run(f"experiments.{command}", f"--workdir={tmp_path / 'run'}", *flags)
    assert finished.code == 2 and sentence in finished.err and len(finished.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["benchmark", "race", "overheads"])
def test_a_folder_is_asked_for(command):
    finished = run(f"experiments.{command}")
    assert finished.code == 2 and f"such as --workdir=runs/{command}" in finished.err

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
        ("benchmark", ["--language", "--shapes=3B"], "--shapes '3B' is not known"),
        ("benchmark", ["--kernels", "--unrolled_steps=0"], "--unrolled_steps must be whole numbers"),
        ("benchmark", ["--kernels", "--language"], "--language and --kernels measure different things"),
        ("race", ["--peer=rejax"], "--peer must be NAME=COMMAND, such as 'rejax=python rejax.py'; got 'rejax'."),
        ("race", ["--seeds=0"], "--seeds=0"),
        ("overheads", ["--part=gard"], "--part=gard"),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(tmp_path, command, flags, sentence):
    finished = run(f"experiments.{command}", f"--workdir={tmp_path / 'run'}", *flags)
    assert finished.code == 2 and sentence in finished.err and len(finished.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("benchmark", []),
        ("race", []),
        ("overheads", []),
        ("tldr", ["--config=configs/tldr_generated.py", "--stage=memory"]),
    ],
)
def test_the_folder_of_a_run_is_refused_and_stays_as_it_is(tmp_path, command, flags):
    (tmp_path / "config.json").write_text("{}")
    finished = run(f"experiments.{command}", f"--workdir={tmp_path}", *flags)
    assert finished.code == 2 and f"--workdir {tmp_path} holds a run, and a " in finished.err
    assert "needs a folder of its own; use another --workdir." in finished.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("command", ["benchmark", "race", "overheads"])
def test_a_folder_is_asked_for(command):
    finished = run(f"experiments.{command}")
    assert finished.code == 2 and f"such as --workdir=runs/{command}" in finished.err

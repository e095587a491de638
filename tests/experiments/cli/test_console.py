"""The program `haepo`: which commands it lists, and what it runs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import console, launch

ROOT = Path(__file__).parents[3]
CALL = "import sys; from experiments.cli.console import main; sys.argv = ['haepo', *sys.argv[1:]]; main()"
REPORT = "; print('jax' in sys.modules, 'haepo_jax' in sys.modules)"


def haepo(*arguments, then=""):
    return subprocess.run(
        [sys.executable, "-c", CALL + then, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_list_of_commands_appears_without_importing_jax():
    finished = haepo("--help", then=REPORT)
    assert finished.stdout.endswith("False False\n"), finished.stderr
    for name in console.list_commands():
        assert f"  {name}" in finished.stdout


def test_each_file_of_experiments_is_a_command_with_a_purpose():
    names = console.list_commands()
    assert sorted(names) == sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))
    assert names[:2] == ["train", "evaluate"]
    assert all(console._read_purpose(name).endswith(".") for name in names)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_a_purpose_is_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    commands = console.describe_commands().partition("Commands:")[2].partition("haepo COMMAND")[0]
    assert max(map(len, commands.splitlines())) <= min(columns, 110)


def test_a_command_is_called_as_its_module_is(monkeypatch):
    ran = []
    monkeypatch.setattr(launch, "_program", "")
    monkeypatch.setattr(console.runpy, "run_module", lambda *given, **options: ran.append((given, options, sys.argv)))
    monkeypatch.setattr(sys, "argv", ["haepo", "train", "--config=cartpole"])
    console.main()
    assert ran == [
        (("experiments.train",), {"run_name": "__main__", "alter_sys": True}, ["haepo", "--config=cartpole"])
    ]
    assert launch.call_of("evaluate") == ["haepo", "evaluate"]


def test_a_module_names_the_next_command_as_a_module():
    assert launch.call_of("evaluate") == ["python", "-m", "experiments.evaluate"]


def test_a_command_that_there_is_not_is_refused_with_those_near_it():
    finished = haepo("trian")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "haepo: 'trian' is not a command; did you mean train?\n"


def test_where_the_losses_alone_are_installed_a_command_names_the_extra(monkeypatch, capfd):
    missing = ("flax", "gymnax")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(SystemExit) as ended:
        launch.check_packages("haepo train")
    assert ended.value.code == 2
    assert capfd.readouterr().err == (
        "haepo train: Commands need more than the losses do: pip install 'haepo_jax[train]' brings what is missing, "
        "flax, gymnax.\n"
    )

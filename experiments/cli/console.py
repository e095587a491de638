"""The program `haepo`: every command of `experiments` by its name.

`haepo train --config=cartpole --workdir=runs/cartpole` is `python -m experiments.train` with the same flags. This
imports the standard library alone, so that the list of commands appears at once.
"""

import ast
import importlib.util
import pkgutil
import runpy
import shutil
import sys
import textwrap
from pathlib import Path

import experiments
from experiments.cli import launch

PROGRAM = "haepo"
_WIDTH = 110
_HELP = ("help", "-h", "--help", "-help", "--helpfull", "--helpshort")
_FIRST = ("train", "evaluate", "sweep", "report", "summarize", "tasks", "tldr", "cross_play")
"""Those that every user needs; the others repeat studies and measurements."""


def main() -> None:
    """Runs the command that the first argument names with the arguments after it; without one, lists the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in _HELP:
        print(describe_commands())
        return
    launch.use_program(PROGRAM)
    if name not in list_commands():
        _refuse(name)
    sys.argv = [PROGRAM, *arguments]
    runpy.run_module(f"{experiments.__name__}.{name}", run_name="__main__", alter_sys=True)


def list_commands() -> list[str]:
    """Lists the commands, those that every user needs first."""
    found = {module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg}
    return [*(name for name in _FIRST if name in found), *sorted(found - {*_FIRST})]


def describe_commands() -> str:
    """Describes how the program is called, and each command in a line."""
    names = list_commands()
    indent = max(map(len, names)) + 4
    width = max(min(shutil.get_terminal_size().columns, _WIDTH), 2 * indent)
    lines = [
        textwrap.fill(
            _read_purpose(name), width, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent
        )
        for name in names
    ]
    first = sum(name in _FIRST for name in names)
    return "\n".join(
        (
            f"Usage: {PROGRAM} COMMAND --FLAG=VALUE ...",
            "",
            "Commands:",
            *lines[:first],
            "",
            "Studies and measurements:",
            *lines[first:],
            "",
            f"{PROGRAM} COMMAND --help lists the flags of a command, and the settings of its config. To begin:",
            "",
            f"  {PROGRAM} train --config=cartpole --workdir=runs/cartpole",
        )
    )


def _read_purpose(name: str) -> str:
    """The first line of the command's docstring; the command is not imported."""
    spec = importlib.util.find_spec(f"{experiments.__name__}.{name}")
    assert spec is not None
    assert spec.origin is not None
    documentation = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return documentation.partition("\n")[0]


def _refuse(name: str) -> None:
    launch.check_packages(PROGRAM)  # as the next import needs one
    from haepo_jax.errors import quoted, suggestion

    sentence = f"{quoted(name)} is not a command{suggestion(name, list_commands())}"
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    sys.exit(launch.BAD_INPUT)

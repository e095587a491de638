"""How a command ends: with what it has found, and with the command that comes next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli import command_line
from haepo_jax.analysis.tables import about_returns
from haepo_jax.config.sweep import from_record
from haepo_jax.population.divergence import find_cause
from haepo_jax.runs.files import read_record
from haepo_jax.runs.metrics.parts import metrics_parts
from haepo_jax.runs.metrics.reader import read_rows
from haepo_jax.text import visible


def say(sentence: str) -> None:
    """Prints a sentence."""
    print(visible(sentence), flush=True)


def say_passed_over(workdir: Path) -> None:
    """Prints what lies in `metrics/` and is not of the run, so that it was not read."""
    for name, reason in metrics_parts(workdir).others.items():
        say(f"{workdir / 'metrics' / name} is passed over: {reason}.")


def say_next(command: str, workdir: Path, *arguments: str) -> None:
    """Prints the command that comes next, to be copied."""
    say(f"Next: {shlex.join(['python', '-m', f'experiments.{command}', f'--workdir={workdir}', *arguments])}")


def end_of_run(summary: Mapping[str, Any], workdir: Path, following: str) -> int:
    """Prints what a run has found and the command that comes next, and returns the exit code.

    Args:
      summary: of the run.
      workdir: its folder.
      following: the command that comes next, such as `report`.
    """
    code = code_of(summary)
    if code == command_line.ALL_DIVERGED:
        say(f"Every member diverged: {_find_cause(workdir)}.")
        return code
    say(about_returns(summary["members"], "final_return", "final return"))
    say_next(following, workdir)
    return code


def _find_cause(workdir: Path) -> str:
    """Why the member diverged that did first."""
    rows = read_rows(workdir, ("episode_return", "diverged"))
    deaths = rows.by_update("diverged", False).argmax(axis=1)
    first = int(deaths.argmin())
    sweep = from_record(read_record(workdir))
    member = sweep.members[first]
    config = next(group.config for group in sweep.groups if group.name == member.group)
    last_return = float(rows.by_update("episode_return", np.nan)[first, deaths[first]])
    return find_cause(config, member.seed, member.settings, int(deaths[first]), last_return)


def code_of(summary: Mapping[str, Any]) -> int:
    """Returns the exit code of a complete run."""
    return command_line.ALL_DIVERGED if all(member["status"] == "diverged" for member in summary["members"]) else 0

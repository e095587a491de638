"""The end of a command: its finding, and the command that comes next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli import command_line, launch
from haepo_jax.analysis.tables import describe_populations, describe_returns
from haepo_jax.population.divergence import find_cause
from haepo_jax.runs.component_files import load_sweep
from haepo_jax.runs.metrics.parts import list_parts
from haepo_jax.runs.metrics.reader import read_rows
from haepo_jax.text import visible


def print_sentence(sentence: str) -> None:
    """Prints a sentence."""
    print(visible(sentence), flush=True)


def print_skipped_parts(workdir: Path) -> None:
    """Prints which files in `metrics/` are not of the run, so that they were not read."""
    for name, reason in list_parts(workdir).others.items():
        print_sentence(f"{workdir / 'metrics' / name} is passed over: {reason}.")


def print_next_command(command: str, workdir: Path, *arguments: str, beginning: str = "Next: ") -> None:
    """Prints the command that comes next, to be copied."""
    line = shlex.join([*launch.call_of(command), f"--workdir={workdir}", *arguments])
    print_sentence(f"{beginning}{line}")


def finish_run(summary: Mapping[str, Any], workdir: Path) -> int:
    """Prints the finding of a run and the commands that come next, and returns the exit code.

    Args:
      summary: of the run.
      workdir: its folder.
    """
    code = find_exit_code(summary)
    if code == command_line.ALL_DIVERGED:
        print_sentence(f"Every member diverged: {_explain_divergence(workdir)}.")
        return code
    if "populations" in summary:
        print_sentence(describe_populations(summary))
    else:
        print_sentence(describe_returns(summary["members"], "final_return", "final return"))
    evaluated = "best_eval_return" in summary["members"][0]
    if evaluated:
        print_sentence(describe_returns(summary["members"], "best_eval_return", "best evaluation return"))
        print_sentence(
            "It chose its own policies, which biases it upward; evaluate --checkpoint=best plays them afresh."
        )
    print_next_command("report", workdir)
    print_next_command("evaluate", workdir, *(["--checkpoint=best"] if evaluated else []), beginning="      ")
    return code


def _explain_divergence(workdir: Path) -> str:
    """Why the member diverged that did first."""
    rows = read_rows(workdir, ("episode_return", "diverged"))
    deaths = rows.by_update("diverged", False).argmax(axis=1)
    first = int(deaths.argmin())
    sweep = load_sweep(workdir)
    member = sweep.members[first]
    config = next(group.config for group in sweep.groups if group.name == member.group)
    last_return = float(rows.by_update("episode_return", np.nan)[first, deaths[first]])
    return find_cause(config, member.seed, member.settings, int(deaths[first]), last_return)


def find_exit_code(summary: Mapping[str, Any]) -> int:
    """Returns the exit code of a complete run."""
    return command_line.ALL_DIVERGED if all(member["status"] == "diverged" for member in summary["members"]) else 0

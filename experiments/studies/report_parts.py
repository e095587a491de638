"""The parts of a page that all studies have: runs with their configs and provenance, and tables of settings tried."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.config.sweep import Sweep
from haepo_jax.reports.page import ConfigListing, Table
from haepo_jax.runs.files import read_attempts, read_summary
from haepo_jax.runtime import startup
from haepo_jax.text import format_settings, shorten_keys

Attempt = Mapping[str, Any]
"""An entry of a `provenance.json`."""


class Choice(Protocol):
    """A method with the settings that were tried and the one that was chosen."""

    @property
    def method(self) -> Method:
        """The method."""

    @property
    def chosen(self) -> Mapping[str, float]:
        """The settings chosen, by dotted name."""

    @property
    def tried(self) -> Sequence[tuple[Mapping[str, float], float]]:
        """All settings tried, each with its score."""


def describe_runs(number: int, attempts: Sequence[Attempt], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Describes the runs of a study: when and where they ran, and with which code.

    Args:
      number: how many runs there are.
      attempts: at all of them.
      measured: what the page lists besides, such as minutes.
    """
    newest = max(attempts, key=lambda attempt: attempt["last_written"])
    return {
        "runs": number,
        "first run": min(attempt["started"] for attempt in attempts),
        "last run": newest["last_written"],
        **measured,
        "CPU cores": startup.usable_cores(),
        "device": f"{len(newest['devices'])} x {newest['device_kind']}",
        "commit": sorted({str(attempt["git"]) for attempt in attempts}),
        "python": newest["python"],
        "packages": newest["packages"],
    }


def list_configs(runs: Runs, command: str) -> tuple[ConfigListing, ...]:
    """Lists the configs of the runs that a study asked for.

    Args:
      runs: of the study.
      command: of the study, such as `python -m experiments.paper`.
    """
    command = f"{command} --workdir=DIR{' --quick' if runs.scale.quick else ''}"
    defaults = to_json(ExperimentConfig())
    return tuple(
        ConfigListing(name, _name_sweep(sweep), sweep.record, command, defaults)
        for name, sweep in sorted(runs.done.items())
    )


def _name_sweep(sweep: Sweep) -> str:
    config = sweep.groups[0].config
    return f"{config.algorithm} on {config.env}"


def describe_provenance(runs: Runs) -> dict[str, Any]:
    """Collects the versions and devices of the runs that a study asked for, and how long they took."""
    attempts, seconds = [], 0.0
    for name in runs.done:
        folder = runs.directory / "runs" / name
        attempts += read_attempts(folder)
        clock = read_summary(folder)["wall_clock"]
        seconds += clock["compile_seconds"] + clock["run_seconds"]
    minutes = {"minutes of all runs, compilation included": round(seconds / 60, 1)}
    return describe_runs(len(runs.done), attempts, minutes)


def make_tuning_table(
    choices: Iterable[Choice],
    *,
    caption: str,
    score_label: str,
    format_score: Callable[[float], str],
    larger: bool = True,
) -> Table:
    """Makes the table of all settings tried, those of a method from the best to the worst, the chosen ones marked.

    Args:
      choices: of the methods in order.
      caption: of the table.
      score_label: what the score is.
      format_score: writes a score.
      larger: whether a larger score is better.
    """
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    for choice in choices:
        for settings, score in sorted(choice.tried, key=lambda pair: pair[1], reverse=larger):
            if settings == choice.chosen:
                marked.append(len(rows))
            rows.append((choice.method.label, format_settings(shorten_keys(settings)), format_score(score)))
    return Table(caption, ("method", "settings", score_label), rows, marked=marked, folded=True)

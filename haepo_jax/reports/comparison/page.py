"""The page that compares runs."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, estimate_interquartile_mean
from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reports import figures
from haepo_jax.reports.comparison.differences import compare_pairs, make_differences_chapter
from haepo_jax.reports.comparison.folders import Compared, collect_finals, read_runs
from haepo_jax.reports.configs import find_differing, write_value
from haepo_jax.reports.formatting import format_interval_cell, format_number
from haepo_jax.reports.page import ConfigListing, Report, Section, Table
from haepo_jax.reports.publishing import PublishedReport
from haepo_jax.reports.run.page import name_algorithm
from haepo_jax.reports.sweep.analysis import format_count
from haepo_jax.reports.sweep.chapter import Chapter, Drawing, make_directory, make_interval_row, publish_chapters
from haepo_jax.reports.sweep.curves import collect_curves, estimate_known
from haepo_jax.reports.sweep.diagnostics import Arm, make_diagnostics_chapter, read_metrics
from haepo_jax.reports.sweep.page import list_config
from haepo_jax.reports.sweep.provenance import describe_provenance, read_attempts_so_far
from haepo_jax.runs.summary import FINAL_UPDATES

_LONGEST_NAME = 240  # bytes, of which a letter has four at most; file systems take 255
_DIGITS = 12
_FINAL = f"mean return of the last {FINAL_UPDATES} updates"


def choose_folder(workdirs: Sequence[Path]) -> Path:
    """Chooses where the page goes unless it is said: inside the first run, named after the others.

    The name of very many others is cut, and ends in a checksum of the whole one.
    """
    name = "+".join(workdir.resolve().name for workdir in workdirs[1:])
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 4 - _DIGITS]}+{hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGITS]}"
    return workdirs[0] / "comparison" / name


def publish_comparison(workdirs: Sequence[Path], directory: Path | None = None) -> PublishedReport:
    """Writes `report.html` that compares runs, and its figures as SVG and PNG into `figures/` beside it.

    Args:
      workdirs: the folders of two runs or more, complete and on the same task.
      directory: where the page goes, by default `choose_folder`.

    Raises:
      ConfigError: a run cannot be compared, see `read_runs`; or the page would go into the folder of a run.
      StorageError: the folder cannot be written to.
    """
    runs = read_runs(workdirs)
    directory = make_directory(choose_folder(workdirs) if directory is None else directory)
    return publish_chapters(directory, _make_report(runs), _make_chapters(runs))


def _make_report(runs: Sequence[Compared]) -> Report:
    configs: list[ConfigListing] = []
    provenance: dict[str, Any] = {}
    for run in runs:
        attempts = read_attempts_so_far(run.workdir)
        listing = list_config(run.workdir, run.sweep, attempts, name_algorithm(run.sweep))
        configs.append(dataclasses.replace(listing, name=run.name))
        provenance |= {
            f"{run.name}: {what}": value for what, value in describe_provenance(run.workdir, attempts).items()
        }
    return Report(
        title=f"{', '.join(run.name for run in runs)}: runs on {runs[0].sweep.config['env']} compared",
        first_paragraph=_describe_pairs(runs),
        sections=(),
        configs=configs,
        provenance=provenance,
    )


def _describe_pairs(runs: Sequence[Compared]) -> str:
    """Says how the run with the highest final return stands beside the others."""
    finals = collect_finals(runs)
    order = np.argsort([-estimate_interquartile_mean(values).value for values in finals], kind="stable").tolist()
    ordered = [runs[k].name for k in order], [finals[k] for k in order]
    highest = format_interval_cell(estimate_interquartile_mean(ordered[1][0]))
    pairs = compare_pairs(*ordered)[: len(runs) - 1]
    return " ".join(
        [
            f"{ordered[0][0]} has the highest final return, {highest}.",
            *(pair.describe("final return") for pair in pairs),
        ]
    )


def _make_chapters(runs: Sequence[Compared]) -> tuple[Chapter, ...]:
    arms = [Arm(run.name, run.sweep, run.scores, 0, read_metrics(run.workdir)) for run in runs]
    chapters = (
        _make_returns_chapter(runs),
        make_differences_chapter(runs, _FINAL),
        _make_settings_chapter(runs),
        make_diagnostics_chapter(arms, by_steps=True),
    )
    return tuple(made for made in chapters if made is not None)


def _make_returns_chapter(runs: Sequence[Compared]) -> Chapter:
    finals, worst = collect_finals(runs), min(run.scores.worst for run in runs)
    curves = []
    for run in runs:
        x, values = collect_curves(run.sweep, run.scores, 0, by_steps=True, worst=worst)
        curves.append(figures.Series(run.name, x, *estimate_known(values)))
    rows = [
        make_interval_row(run.name, estimate_interquartile_mean(values))
        for run, values in zip(runs, finals, strict=True)
    ]
    learning = Drawing(
        functools.partial(
            figures.curves, curves, x_label="environment steps", y_label="mean return of an update's episodes"
        ),
        alt="Return against environment steps: "
        + "; ".join(
            f"{curve.label} ends at {format_number(float(curve.centre[-1]))} after {int(curve.x[-1]):,} steps"
            for curve in curves
        )
        + ".",
        caption="Interquartile mean over seeds, at each point on its own, with its 95% bootstrap band where there are "
        f"{FEWEST_SEEDS} seeds or more; each run as far as all its members came. A member that has diverged counts "
        "as the worst final return of all runs from there on.",
    )
    ended = Drawing(
        functools.partial(figures.intervals, rows, x_label=f"final return ({_FINAL})"),
        alt="Final returns: " + "; ".join(f"{row[0]} {format_number(row[1])}" for row in rows) + ".",
        caption="The final return of each run: interquartile mean over seeds, with its 95% bootstrap interval where "
        f"there are {FEWEST_SEEDS} seeds or more.",
    )
    question = "How do the runs learn, and where do they end?"
    section = Section("returns", "Returns", question, (), (), (_make_runs_table(runs, finals),))
    return Chapter(section, (learning, ended))


def _make_runs_table(runs: Sequence[Compared], finals: Sequence[np.ndarray]) -> Table:
    rows = []
    for run, values in zip(runs, finals, strict=True):
        attempts = read_attempts_so_far(run.workdir)
        seconds = sum(attempt["run_seconds"] for attempt in attempts)
        steps = int(run.sweep.env_steps.max(axis=1, initial=0).sum())
        rows.append(
            (
                run.name,
                name_algorithm(run.sweep),
                str(len(run.sweep.point)),
                str(int(run.scores.diverged.sum())),
                f"{run.last_steps:,}",
                format_interval_cell(estimate_interquartile_mean(values)),
                format_number(seconds) if attempts else "–",
                format_number(steps / seconds) if seconds > 0 else "–",
            )
        )
    columns = ("run", "method", "seeds", "diverged", "steps of a seed", "final return", "seconds", "steps a second")
    return Table(
        "The runs",
        columns,
        rows,
        f"Final return: {_FINAL}; interquartile mean over seeds with its 95% bootstrap interval, where there are "
        f"{FEWEST_SEEDS} seeds or more. Seconds are without compilation, and steps a second those of all seeds.",
    )


def _make_settings_chapter(runs: Sequence[Compared]) -> Chapter:
    differing = find_differing([run.sweep.config for run in runs], to_json(ExperimentConfig()))
    rows = [(name, *map(write_value, values)) for name, values in differing.items()]
    findings = [
        f"The runs differ in {format_count(len(rows), 'setting')}."
        if rows
        else "The runs have the same settings: what differs is chance, or the code and machine that they ran on."
    ]
    if "horizon" in differing:
        findings.append("They cut episodes at unequal horizons, so that their returns are not those of one task.")
    table = Table("The settings that differ", ("setting", *(run.name for run in runs)), rows)
    question = "What sets the runs apart?"
    return Chapter(Section("settings", "Differing settings", question, findings, (), (table,) if rows else ()))

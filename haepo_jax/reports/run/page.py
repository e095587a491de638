"""The page of a run without swept settings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from haepo_jax.reports.page import Report
from haepo_jax.reports.publishing import PublishedReport
from haepo_jax.reports.run.facts import make_settings_chapter, make_time_chapter
from haepo_jax.reports.run.returns import describe_final, make_returns_chapter
from haepo_jax.reports.sweep.chapter import Chapter, choose_directory, publish_chapters
from haepo_jax.reports.sweep.diagnostics import Arm, make_diagnostics_chapter, read_metrics
from haepo_jax.reports.sweep.folder import Sweep, read_sweep
from haepo_jax.reports.sweep.page import list_config, publish_report
from haepo_jax.reports.sweep.provenance import Attempt, describe_provenance, read_attempts_so_far
from haepo_jax.reports.sweep.ranking import Scores, score_members
from haepo_jax.runs.files import StrPath, find_exchange_interval, read_members, read_record
from haepo_jax.runs.metrics.reader import list_metrics, read_metric


def publish_page(workdir: StrPath, directory: StrPath | None = None) -> PublishedReport:
    """Writes the page of a run, that of a sweep where settings vary; arguments and errors as of `publish_run`."""
    varied = find_exchange_interval(read_record(workdir)) is not None or read_members(workdir)[0]["settings"]
    return publish_report(workdir, directory) if varied else publish_run(workdir, directory)


def publish_run(workdir: StrPath, directory: StrPath | None = None) -> PublishedReport:
    """Writes `report.html` of a run, and its figures as SVG and PNG into `figures/` beside it.

    Args:
      workdir: the folder of the run, also while it is at work; no settings are swept in it.
      directory: where the page goes, by default the same folder.

    Raises:
      ConfigError: there is no run in the folder, or it has written nothing yet; the page would go into that of
        another run.
      StorageError: the folder cannot be written to.
    """
    workdir = Path(workdir)
    sweep = read_sweep(workdir)
    scores = score_members(sweep)
    attempts = read_attempts_so_far(workdir)
    made = Report(
        title=f"{name_algorithm(sweep)} on {sweep.config['env']}",
        first_paragraph=describe_final(sweep, scores),
        sections=(),
        configs=(list_config(workdir, sweep, attempts, "The whole configuration"),),
        provenance=describe_provenance(workdir, attempts),
    )
    directory = choose_directory(workdir, directory)
    return publish_chapters(directory, made, _make_chapters(workdir, sweep, scores, attempts))


def name_algorithm(sweep: Sweep) -> str:
    """Returns the name of a run's method, as titles have it."""
    name = str(sweep.config["algorithm"])
    return name if ":" in name else name.upper()


def read_evaluations(workdir: Path) -> np.ndarray | None:
    """Reads the returns of evaluations in training, `[members, updates]`; None where nothing was evaluated."""
    return read_metric(workdir, "eval_return") if "eval_return" in list_metrics(workdir) else None


def _make_chapters(workdir: Path, sweep: Sweep, scores: Scores, attempts: Sequence[Attempt]) -> tuple[Chapter, ...]:
    arm = Arm("all", sweep, scores, 0, read_metrics(workdir))
    chapters = (
        make_returns_chapter(sweep, scores, read_evaluations(workdir)),
        make_diagnostics_chapter([arm], by_steps=True),
        make_settings_chapter(sweep),
        make_time_chapter(sweep, attempts),
    )
    return tuple(made for made in chapters if made is not None)

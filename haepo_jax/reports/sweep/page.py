"""The page of a sweep: which settings have the highest returns, which matter, how they learned, and how far it is."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reports.page import ConfigListing, Report
from haepo_jax.reports.publishing import PublishedReport
from haepo_jax.reports.sweep.analysis import Analysis, analyse_sweep, format_count
from haepo_jax.reports.sweep.best import describe_highest, make_best_chapter
from haepo_jax.reports.sweep.chapter import Chapter, choose_directory, publish_chapters
from haepo_jax.reports.sweep.diagnostics import Arm, make_diagnostics_chapter, read_metrics
from haepo_jax.reports.sweep.folder import Sweep, counts_steps, find_default_point, read_sweep
from haepo_jax.reports.sweep.importance import make_importance_chapter
from haepo_jax.reports.sweep.lineage import describe_lineages, make_lineage_chapter
from haepo_jax.reports.sweep.pairs import make_levels_chapter
from haepo_jax.reports.sweep.progress import make_progress_chapter
from haepo_jax.reports.sweep.provenance import Attempt, describe_provenance, read_attempts_so_far
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.lineage import Lineage, read_lineage


def write_report(workdir: StrPath) -> Path:
    """Writes the page of a sweep, and returns its path. Arguments and errors as of `publish_report`."""
    return publish_report(workdir).page


def publish_report(workdir: StrPath, directory: StrPath | None = None) -> PublishedReport:
    """Writes `report.html` of a sweep, and its figures as SVG and PNG into `figures/` beside it.

    Args:
      workdir: the folder of the sweep, also while it runs.
      directory: where the page goes, by default the same folder.

    Raises:
      ConfigError: there is no run in the folder, or it has written nothing yet; the page would go into that of
        another run.
      StorageError: the folder cannot be written to.
    """
    workdir = Path(workdir)
    directory = choose_directory(workdir, directory)
    analysis = analyse_sweep(read_sweep(workdir))
    attempts = read_attempts_so_far(workdir)
    lineage = read_lineage(workdir)
    made = Report(
        title=_write_title(analysis, lineage),
        first_paragraph=write_headline(analysis, lineage),
        sections=(),
        configs=(list_config(workdir, analysis.sweep, attempts, "The base configuration and what is swept"),),
        provenance=describe_provenance(workdir, attempts),
    )
    metrics = {} if lineage is not None else read_metrics(workdir)
    return publish_chapters(directory, made, make_chapters(analysis, lineage, metrics))


def make_chapters(
    analysis: Analysis,
    lineage: Lineage | None = None,
    metrics: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> tuple[Chapter, ...]:
    """Makes the sections of the page in order; where settings change while members train, none compares settings.

    Args:
      analysis: of the sweep.
      lineage: who copied whom, of a run with population-based training.
      metrics: as of `read_metrics`.
    """
    if lineage is not None:
        return make_lineage_chapter(analysis, lineage), make_progress_chapter(analysis)
    chapters = (
        make_best_chapter(analysis),
        make_importance_chapter(analysis),
        make_levels_chapter(analysis),
        make_diagnostics_chapter(_choose_arms(analysis, metrics), by_steps=counts_steps(analysis.sweep)),
        make_progress_chapter(analysis),
    )
    return tuple(made for made in chapters if made is not None)


def _choose_arms(analysis: Analysis, metrics: Mapping[str, np.ndarray]) -> list[Arm]:
    """The setting with the highest score, and the default."""
    ranking, default = analysis.ranking, find_default_point(analysis.sweep)
    points = {int(ranking.order[0]): analysis.beside[int(ranking.order[0])].removeprefix("the ")}
    if default is not None and ranking.seeds[default]:
        points[default] = f"{points[default]}, the default" if default in points else "default"
    return [Arm(label, analysis.sweep, analysis.scores, point, metrics) for point, label in points.items()]


def _write_title(analysis: Analysis, lineage: Lineage | None) -> str:
    config, swept = analysis.sweep.config, analysis.names
    env = "several environments" if "env" in swept else config["env"]
    algorithm = "several algorithms" if "algorithm" in swept else config["algorithm"].upper()
    return f"{'Sweep' if lineage is None else 'Population-based training'}: {algorithm} on {env}"


def write_headline(analysis: Analysis, lineage: Lineage | None = None) -> str:
    """Says which settings have the highest final return, whether they may be called the best, and how far it is."""
    if lineage is not None:
        text = describe_lineages(analysis, lineage)
        if analysis.sweep.done.all():
            return text
        return f"{text} The run is not complete: all are compared after {analysis.scores.updates} updates."
    sweep, ranking = analysis.sweep, analysis.ranking
    ranked, total = len(ranking.order), len(sweep.points)
    best, default = int(ranking.order[0]), find_default_point(sweep)
    text = f"{describe_highest(analysis)} "
    if default is not None and default != best and ranking.seeds[default]:
        text += f"The default has {analysis.score(default)}: {analysis.beside[default]}. "
    if not sweep.done.all():
        if ranked < total:
            text += f"{format_count(total - ranked, 'more combination')} have not come so far. "
        text += f"The sweep is not complete: all are compared after {format_count(analysis.scores.updates, 'update')}."
    return text.strip()


def list_config(workdir: Path, sweep: Sweep, attempts: Sequence[Attempt], label: str) -> ConfigListing:
    """Lists the config of a run for its page, with the command that begins it.

    Args:
      workdir: its folder.
      sweep: its records.
      attempts: at it, none where they are not known.
      label: what the config is, for people.
    """
    # A list of points may be long; what they are is in members.json.
    config = {**sweep.config, "search": {k: v for k, v in sweep.config.get("search", {}).items() if k != "points"}}
    program, *flags = (
        attempts[0]["command"][1:]
        if attempts
        else (f"experiments/{'sweep' if sweep.settings else 'train'}.py", "--config=FILE", f"--workdir={workdir}")
    )
    path = Path(program)  # that of a script which calls the sweep as a function may lie anywhere
    program = ["-m", f"experiments.{path.stem}"] if path.parent.name == "experiments" else [program]
    command = shlex.join(["python", *program, *flags])
    defaults = to_json(ExperimentConfig())
    return ConfigListing(workdir.resolve().name, label, config, command, defaults)

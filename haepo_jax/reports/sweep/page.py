"""The page of a sweep: which settings have the highest returns, which matter, and how far it is."""

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path

from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.reports.page import ConfigListing, Report, Section
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.reports.sweep.analysis import Analysis, analyse_sweep, format_count
from haepo_jax.reports.sweep.best import describe_highest, make_best_chapter
from haepo_jax.reports.sweep.chapter import Chapter
from haepo_jax.reports.sweep.folder import Sweep, find_default_point, read_sweep
from haepo_jax.reports.sweep.importance import make_importance_chapter
from haepo_jax.reports.sweep.lineage import describe_lineages, make_lineage_chapter
from haepo_jax.reports.sweep.pairs import make_levels_chapter
from haepo_jax.reports.sweep.progress import make_progress_chapter
from haepo_jax.reports.sweep.provenance import Attempt, describe_provenance, read_attempts_so_far
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_file
from haepo_jax.runs.lineage import Lineage, read_lineage


def write_report(workdir: StrPath) -> Path:
    """Writes the page of a sweep, and returns its path. Arguments and errors as of `publish_report`."""
    return publish_report(workdir).page


def publish_report(workdir: StrPath) -> PublishedReport:
    """Writes `report.html` into the folder of a sweep, and its figures as SVG and PNG into `figures/`.

    Args:
      workdir: the folder, also while the sweep runs.

    Raises:
      ConfigError: there is no sweep in the folder, or it has written nothing yet.
      StorageError: the folder cannot be written to.
    """
    workdir = Path(workdir)
    analysis = analyse_sweep(read_sweep(workdir))
    attempts = read_attempts_so_far(workdir)
    lineage = read_lineage(workdir)
    chapters = make_chapters(analysis, lineage)
    made = Report(
        title=_write_title(analysis, lineage),
        first_paragraph=write_headline(analysis, lineage),
        sections=tuple(_draw_figures(chapter) for chapter in chapters),
        configs=(_list_config(workdir, analysis.sweep, attempts),),
        provenance=describe_provenance(workdir, attempts),
    )
    page = publish(workdir, made)
    with storage_errors(workdir):
        for chapter in chapters:
            for place, drawing in enumerate(chapter.drawings, start=1):
                file = workdir / "figures" / f"{chapter.section.slug}-{place}.png"
                write_file(file, functools.partial(Path.write_bytes, data=drawing.png()))
    return PublishedReport(page, made.first_paragraph)


def make_chapters(analysis: Analysis, lineage: Lineage | None = None) -> tuple[Chapter, ...]:
    """Makes the sections of the page in order; where settings change while members train, none compares settings."""
    if lineage is not None:
        return make_progress_chapter(analysis), make_lineage_chapter(analysis, lineage)
    chapters = (make_progress_chapter, make_best_chapter, make_importance_chapter, make_levels_chapter)
    return tuple(made for chapter in chapters if (made := chapter(analysis)) is not None)


def _draw_figures(chapter: Chapter) -> Section:
    section = chapter.section
    drawn = tuple(drawing.for_page() for drawing in chapter.drawings)
    return Section(section.slug, section.title, section.question, section.findings, drawn, section.tables)


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


def _list_config(workdir: Path, sweep: Sweep, attempts: Sequence[Attempt]) -> ConfigListing:
    # A list of points may be long; what they are is in members.json.
    config = {**sweep.config, "search": {k: v for k, v in sweep.config.get("search", {}).items() if k != "points"}}
    program, *flags = (
        attempts[0]["command"][1:] if attempts else ("experiments/sweep.py", "--config=FILE", f"--workdir={workdir}")
    )
    path = Path(program)  # that of a script which calls the sweep as a function may lie anywhere
    program = ["-m", f"experiments.{path.stem}"] if path.parent.name == "experiments" else [program]
    command = shlex.join(["python", *program, *flags])
    defaults = to_json(ExperimentConfig())
    return ConfigListing(workdir.resolve().name, "The base configuration and what is swept", config, command, defaults)

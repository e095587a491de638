"""The parts of a chapter of a page, before its figures are drawn; and the page of chapters, written to a folder."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.errors import ConfigError
from haepo_jax.reports import figures
from haepo_jax.reports.page import Figure, Report, Section
from haepo_jax.reports.publishing import PublishedReport, publish
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_file


class Drawing(NamedTuple):
    """A figure yet to be drawn: for the page in two widths, and as a file."""

    draw: Callable[..., bytes]
    alt: str
    caption: str
    folded: bool = False
    """Whether the page shows it on demand only."""

    def for_page(self) -> Figure:
        """Draws the figure of the page."""
        drawn = figures.responsive(self.draw, alt=self.alt, caption=self.caption)
        return dataclasses.replace(drawn, folded=self.folded)

    def png(self) -> bytes:
        """Draws the figure as a file of its own."""
        return self.draw(width=figures.WIDE, image_format="png")


class Chapter(NamedTuple):
    """A section of the page and its figures, which it does not hold yet."""

    section: Section
    drawings: tuple[Drawing, ...] = ()


def choose_directory(workdir: Path, directory: StrPath | None) -> Path:
    """Chooses where the page of a run goes, and makes that folder: the run's own unless another is given.

    Raises:
      ConfigError: the other one is the folder of another run.
      StorageError: it cannot be made.
    """
    if directory is None or Path(directory).resolve() == workdir.resolve():
        return workdir
    return make_directory(directory)


def make_directory(directory: StrPath) -> Path:
    """Makes the folder of a page beside the runs that it is about.

    Raises:
      ConfigError: it is the folder of a run.
      StorageError: it cannot be made.
    """
    directory = Path(directory)
    if (directory / "config.json").exists():
        raise ConfigError(
            f"--output {directory} is the folder of a run, which has a page of its own there; give another folder."
        )
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def publish_chapters(directory: Path, made: Report, chapters: Iterable[Chapter]) -> PublishedReport:
    """Draws the figures of chapters, and writes the page and its figures, as SVG and as PNG, into a folder.

    Args:
      directory: where to.
      made: the page without its sections.
      chapters: these, in order.

    Raises:
      StorageError: the folder cannot be written to.
    """
    chapters = tuple(chapters)
    sections = tuple(
        dataclasses.replace(chapter.section, figures=tuple(drawing.for_page() for drawing in chapter.drawings))
        for chapter in chapters
    )
    page = publish(directory, dataclasses.replace(made, sections=sections))
    with storage_errors(directory):
        for chapter in chapters:
            for place, drawing in enumerate(chapter.drawings, start=1):
                file = directory / "figures" / f"{chapter.section.slug}-{place}.png"
                write_file(file, functools.partial(Path.write_bytes, data=drawing.png()))
    return PublishedReport(page, made.first_paragraph)


def make_interval_row(label: str, estimate: Estimate) -> tuple[str, float, float, float]:
    """Makes a row of `figures.intervals`."""
    return label, float(estimate.value), float(estimate.low), float(estimate.high)

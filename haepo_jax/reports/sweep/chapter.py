"""The parts of a chapter of the page, before its figures are drawn."""

from collections.abc import Callable
from typing import NamedTuple

from haepo_jax.analysis.statistics import Estimate
from haepo_jax.reports import figures
from haepo_jax.reports.page import Figure, Section


class Drawing(NamedTuple):
    """A figure yet to be drawn: for the page in two widths, and as a file."""

    draw: Callable[..., bytes]
    alt: str
    caption: str

    def for_page(self) -> Figure:
        """Draws the figure of the page."""
        return figures.responsive(self.draw, alt=self.alt, caption=self.caption)

    def png(self) -> bytes:
        """Draws the figure as a file of its own."""
        return self.draw(width=figures.WIDE, image_format="png")


class Chapter(NamedTuple):
    """A section of the page and its figures, which it does not hold yet."""

    section: Section
    drawings: tuple[Drawing, ...] = ()


def make_interval_row(label: str, estimate: Estimate) -> tuple[str, float, float, float]:
    """Makes a row of `figures.intervals`."""
    return label, float(estimate.value), float(estimate.low), float(estimate.high)

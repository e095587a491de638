"""Figures: arrays in, the bytes of an SVG or a PNG out, all in one style.

Every drawing has units on its axes and its legend below them. A curve or row has its colour, dash and marker by its
order, or by the family that its label names (`style`). The same arrays give the same bytes.

Values may be NaN (a gap in a curve, a run without a value) and infinite (a score that was never reached: drawn in a
lane of its own at the end of the axis, which says so).
"""

from haepo_jax.reports.figures.bars import bars
from haepo_jax.reports.figures.curves import Series, curves, panels, profiles
from haepo_jax.reports.figures.findings import describe
from haepo_jax.reports.figures.heat_map import heat_map
from haepo_jax.reports.figures.intervals import grouped_intervals, intervals
from haepo_jax.reports.figures.rendering import responsive
from haepo_jax.reports.figures.strip import strip
from haepo_jax.reports.figures.style import NARROW, NEUTRAL, WIDE, Format, Style

__all__ = [
    "NARROW",
    "NEUTRAL",
    "WIDE",
    "Format",
    "Series",
    "Style",
    "bars",
    "curves",
    "describe",
    "grouped_intervals",
    "heat_map",
    "intervals",
    "panels",
    "profiles",
    "responsive",
    "strip",
]

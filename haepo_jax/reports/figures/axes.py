"""Axes: their ends, the round numbers along them, and lanes for infinite values."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from haepo_jax.reports.figures.style import DASHED, FAINT, GREY, NO_VALUE, Frame, wrap
from haepo_jax.text import visible

_LANE = 0.16
"""Share of an axis that a lane for infinite values takes."""


def keep_drawable(values: np.ndarray, log: bool) -> np.ndarray:
    """Returns values with NaN in place of those that the axis cannot show."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)


def find_limits(values: np.ndarray, log: bool, margin: float = 0.05) -> tuple[float, float]:
    """Returns the ends of an axis that shows all values that can be drawn, with a margin as a share of it."""
    values = keep_drawable(values, log)
    values = values[~np.isnan(values)]
    if not values.size:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = math.log10(low), math.log10(high)
    if low == high:
        half = 0.5 if log else 0.5 * abs(low) or 0.5
        low, high = low - half, high + half
    pad = margin * (high - low)
    low, high = low - pad, high + pad
    return (10.0**low, 10.0**high) if log else (low, high)


def make_locator(low: float, high: float, log: bool, room: int) -> ticker.Locator:
    """Makes a locator of round numbers along an axis that has room for so many."""
    decades = math.log10(high / low) if log else 0.0
    if decades < 0.7:
        return ticker.MaxNLocator(room, steps=[1, 2, 2.5, 5, 10])
    fitting = (subs for subs in ((1.0, 2.0, 5.0), (1.0, 3.0)) if decades * len(subs) <= room)
    return ticker.LogLocator(subs=next(fitting, (1.0,)), numticks=room + 1)


class NumberFormatter(ticker.Formatter):
    """Numbers along an axis in one unit, or each in its own where it is logarithmic."""

    def __init__(self, log: bool) -> None:
        """Takes whether the axis is logarithmic."""
        self.log = log

    def __call__(self, value: float, pos: int | None = None) -> str:
        """Formats one number."""
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Formats all numbers along an axis."""
        largest = max((abs(value) for value in values), default=0.0)
        return [self._format(value, abs(value) if self.log else largest) for value in values]

    @staticmethod
    def _format(value: float, size: float) -> str:
        if value == 0 or size >= 1e9:
            return f"{value:.3g}"
        if size >= 1e6:
            return f"{value / 1e6:.4g}M"
        if size >= 1e4:
            return f"{value / 1e3:.4g}k"
        return f"{value:.6g}"


class Lanes(NamedTuple):
    """Places along x: infinite values are in a lane of their own at the end of the axis."""

    below: tuple[float, float]
    above: tuple[float, float]
    log: bool

    def place(self, values: np.ndarray, breadth: float = 0.0) -> np.ndarray:
        """Places values; those within a lane are spread over a share `breadth` of it."""
        values = np.asarray(values, dtype=np.float64)
        low = np.isneginf(values) | (self.log & (values <= 0))  # whose logarithm is endlessly low
        result = values.copy()
        for within, (start, end) in ((low, self.below), (np.isposinf(values), self.above)):
            count = int(within.sum())
            shares = 0.5 + breadth * ((np.arange(count) + 0.5) / max(count, 1) - 0.5)
            result[within] = start * (end / start) ** shares if self.log else start + (end - start) * shares
        return result


def add_lanes(
    axes: Axes, values: np.ndarray, frame: Frame, *, log: bool, reference: float | None, never: str
) -> Lanes:
    """Sets up x for values, with a lane at an end where some are infinite, and a line at `reference`."""
    values = values.ravel()
    within = values if reference is None else np.append(values, reference)
    low, high = find_limits(within, log)
    if log:
        axes.set_xscale("log")

    def place(share: float) -> float:
        return low * (high / low) ** share if log else low + (high - low) * share

    lane = _LANE * (1.5 if frame.is_narrow else 1.0)
    lanes = Lanes((place(-lane), low), (high, place(1 + lane)), log)
    below = bool(np.isneginf(values).any() or (log and (values <= 0).any()))
    above = bool(np.isposinf(values).any())
    # A number beside the lane would run into the lane's name.
    first, last = place(lane / 3 * below), place(1 - lane / 3 * above)
    locator = make_locator(low, high, log, int(frame.width))
    ticks = [tick for tick in locator.tick_values(low, high) if first <= tick <= last]
    if np.isnan(keep_drawable(within, log)).all():
        ticks = []
    labels = NumberFormatter(log).format_ticks(ticks)
    for there, ends, value in ((below, lanes.below, -np.inf), (above, lanes.above, np.inf)):
        if there:
            axes.axvspan(*ends, color=FAINT, linewidth=0, zorder=0.5)
            ticks.append(float(lanes.place(np.array(value))))
            labels.append(visible(never))
    axes.set_xlim(lanes.below[0] if below else low, lanes.above[1] if above else high)
    axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ticker.FixedFormatter(labels))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=DASHED, zorder=1)
    return lanes


def wrap_row_names(labels: Sequence[str], width: float) -> tuple[list[str], float]:
    """Breaks the names of the rows of a figure into lines that fit beside it.

    Returns:
      The names, and the height of the longest in inches.
    """
    names = [wrap(label, 0.3 * width) for label in labels]
    return names, 0.16 * max((name.count("\n") + 1 for name in names), default=1)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows, the first at the top."""
    if not names:
        say_empty(axes)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def say_empty(axes: Axes) -> None:
    """Writes into axes that there is nothing to draw."""
    axes.text(0.5, 0.5, NO_VALUE, transform=axes.transAxes, ha="center", va="center", color=GREY, style="italic")


def say_row_empty(axes: Axes, row: float) -> None:
    """Writes into a row that there is nothing to draw."""
    axes.text(0.02, row, NO_VALUE, transform=axes.get_yaxis_transform(), va="center", color=GREY, style="italic")

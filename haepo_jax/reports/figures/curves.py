"""Curves with bands, on one pair of axes or on several."""

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Required, Unpack

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from haepo_jax.reports.figures.axes import NumberFormatter, find_limits, keep_drawable, make_locator, say_empty
from haepo_jax.reports.figures.readings import name_part, read_axes, read_curve
from haepo_jax.reports.figures.rendering import render
from haepo_jax.reports.figures.style import (
    DASHED,
    GREY,
    RC,
    Frame,
    Options,
    Style,
    assign_styles,
    make_handle,
    make_line_handle,
    wrap,
)
from haepo_jax.text import visible

_MAX_POINTS = 250
_MAX_RUNS = 64
_TOLERANCE = 0.001
"""How far, as a share of the height, a curve may be drawn from where it is."""
_MARKERS_PER_LINE = 6
_MOST_NAMED = 24
"""A legend of more curves would be taller than the figure, and there is none."""


class Series(NamedTuple):
    """A curve: `centre` over `x`, and a band from `low` to `high` where there is one, all `[points]`.

    Where `runs` are given, `[runs, points]`, the first 64 of them are faint lines behind it.
    """

    label: str
    x: np.ndarray
    centre: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    runs: np.ndarray | None = None


class CurveOptions(Options, total=False):
    """Options of figures of curves, with those of `Frame`.

    Attributes:
      x_label: what x is, with its unit.
      y_label: what y is, with its unit.
      x_log: whether x is logarithmic; what is not positive is then left out.
      y_log: whether y is.
      y_line: a level to draw across.
      y_line_label: what that level is, for the legend.
      y_limits: the ends of y, from the data when unset.
    """

    x_label: Required[str]
    y_label: Required[str]
    x_log: bool
    y_log: bool
    y_line: float | None
    y_line_label: str
    y_limits: tuple[float, float] | None


def curves(series: Sequence[Series], **options: Unpack[CurveOptions]) -> bytes:
    """Draws curves with bands on one pair of axes.

    Args:
      series: the curves; a long one is drawn through the points that shape it.
      **options: see `CurveOptions`.

    Returns:
      The drawing.
    """
    return panels([("", series)], **options)


def profiles(
    series: Sequence[Series], *, x_label: str, y_label: str = "share of runs above it", **options: Unpack[Options]
) -> bytes:
    """Draws performance profiles: the share of runs, from 0 to 1, above each score.

    Args:
      series: for each algorithm the scores as `x` and the shares as `centre`, with their bands.
      x_label: what the score is, with its unit.
      y_label: what is counted.
      **options: see `Frame`.

    Returns:
      The drawing.
    """
    return panels([("", series)], x_label=x_label, y_label=y_label, y_limits=(-0.02, 1.02), **options)


def panels(
    charts: Sequence[tuple[str, Sequence[Series]]],
    *,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    y_log: bool = False,
    y_line: float | None = None,
    y_line_label: str = "",
    y_limits: tuple[float, float] | None = None,
    share_y: bool = False,
    columns: int = 3,
    **options: Unpack[Options],
) -> bytes:
    """Draws curves on several pairs of axes side by side, with one legend; one below the other where it is narrow.

    Args:
      charts: for each pair of axes its title and curves.
      x_label: see `CurveOptions`, as for all that is not said here.
      y_label: see `CurveOptions`.
      x_log: see `CurveOptions`.
      y_log: see `CurveOptions`.
      y_line: see `CurveOptions`.
      y_line_label: see `CurveOptions`.
      y_limits: see `CurveOptions`.
      share_y: whether all panels have the same y.
      columns: the most panels side by side.
      **options: see `Frame`.

    Returns:
      The drawing.
    """
    frame = Frame(**options)
    width, series = frame.width, [curve for _, chart in charts for curve in chart]
    with matplotlib.rc_context(RC):
        columns = 1 if frame.is_narrow else min(columns, len(charts))
        rows = math.ceil(len(charts) / columns)
        height = {1: 0.52, 2: 0.75}.get(columns, 0.9) * width / columns if len(charts) > 1 else max(0.5 * width, 2.5)
        canvas = Canvas(figsize=(width, rows * height))
        size = (width / columns - 0.5, height - 0.5)  # of the axes, about
        grid = canvas.subplots(rows, columns, squeeze=False)
        looks = assign_styles([curve.label for curve in series], frame.families)
        numbers = {label: number for number, label in enumerate(looks)}
        all_limits, readings = _find_y_limits(series, y_line, y_log), []
        for number, axes in enumerate(grid.flat):
            if number >= len(charts):
                axes.remove()
                continue
            name, chart = charts[number]
            limits = y_limits or (all_limits if share_y else _find_y_limits(chart, y_line, y_log))
            drawn = _draw_curves(axes, chart, looks, limits, size, x_log=x_log, y_log=y_log)
            for label, part, artist in drawn:
                name_part(artist, numbers[label], f"{part}-{number}")
            read = [_read_curve(curve, numbers[curve.label], x_log) for curve in chart]
            readings.append(read_axes(axes, number, of=visible(x_label), curves=read))
            if y_line is not None:
                axes.axhline(y_line, color=GREY, linewidth=1, linestyle=DASHED, zorder=1)
            axes.set_title(wrap(name, size[0]))
            if number % columns == 0:
                axes.set_ylabel(wrap(y_label, height - 0.7))
            if number + columns >= len(charts):
                axes.set_xlabel(wrap(x_label, size[0]))
        handles = [make_handle(label, style) for label, style in looks.items()]
        if y_line is not None and y_line_label:
            handles.append(make_line_handle(y_line_label))
        shown = handles if 1 < len(handles) <= _MOST_NAMED else []
        return render(canvas, frame, shown, readings=readings, series=len(looks))


def _read_curve(curve: Series, number: int, log: bool) -> dict[str, Any]:
    ends = {"l": curve.low, "h": curve.high}
    band = {name: end for name, end in ends.items() if end is not None and not np.isnan(end).all()}
    values = {"v": curve.centre, **(band if len(band) == 2 else {})}
    return read_curve(number, curve.label, keep_drawable(curve.x, log), values, log=log)


def _draw_curves(
    axes: Axes,
    chart: Sequence[Series],
    looks: Mapping[str, Style],
    y_limits: tuple[float, float],
    size: tuple[float, float],
    *,
    x_log: bool,
    y_log: bool,
) -> list[tuple[str, str, Artist]]:
    """Draws the curves of a pair of axes; returns their parts, each with its curve's label and what it is of it."""
    drawn: list[tuple[str, str, Artist]] = []
    if x_log:
        axes.set_xscale("log")
    if y_log:
        axes.set_yscale("log")
    x_values = np.concatenate([np.asarray(curve.x, dtype=np.float64) for curve in chart] or [np.empty(0)])
    x_limits = find_limits(x_values, x_log, 0.02)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)
    if not any(np.isfinite(keep_drawable(curve.centre, y_log)).any() for curve in chart):
        say_empty(axes)
    for number, curve in enumerate(chart):
        style = looks[curve.label]
        x, centre = keep_drawable(curve.x, x_log), keep_drawable(curve.centre, y_log)
        for place, run in enumerate(_faint_runs(curve)):
            values = keep_drawable(run, y_log)
            (line,) = axes.plot(x, values, color=style.colour, alpha=0.15, linewidth=0.6, zorder=1.5)
            drawn.append((curve.label, f"run-{place}", line))
        # An infinite end of a band is drawn at the edge, and so is one that a logarithm lacks.
        ends = [end for end in (curve.low, curve.high) if end is not None and not np.isnan(end).all()]
        band = [np.clip(end, *y_limits) for end in ends]
        heights = np.stack([_share_of_axis(y, y_limits, y_log) for y in (centre, *band)])
        shares = _share_of_axis(x, x_limits, x_log)
        points = _choose_points(shares, heights)
        if len(band) == 2:
            low, high = (end[points] for end in band)
            filled = axes.fill_between(x[points], low, high, color=style.colour, alpha=0.13, linewidth=0, zorder=2)
            drawn.append((curve.label, "band", filled))
        (line,) = axes.plot(x[points], centre[points], color=style.colour, linestyle=style.dashes, zorder=3)
        drawn.append((curve.label, "line", line))
        # Markers of the curves alternate along x.
        targets = (np.arange(_MARKERS_PER_LINE) + (number + 0.5) / len(chart)) / _MARKERS_PER_LINE
        known = np.flatnonzero(np.isfinite(shares) & np.isfinite(heights[0]))
        if known.size:
            marked = np.unique(known[np.abs(shares[known] - targets[:, None]).argmin(axis=1)])
            (marks,) = axes.plot(
                x[marked],
                centre[marked],
                color=style.colour,
                linestyle="none",
                marker=style.marker,
                markeredgewidth=0,
                zorder=3,
            )
            drawn.append((curve.label, "marks", marks))
    width, height = size
    for axis, limits, log, room in (
        (axes.xaxis, x_limits, x_log, int(width / 0.55)),
        (axes.yaxis, y_limits, y_log, int(height / (0.3 if y_log else 0.45))),
    ):
        axis.set_major_locator(make_locator(*limits, log, max(3, room)))
        axis.set_major_formatter(NumberFormatter(log))
        axis.set_minor_locator(ticker.NullLocator())
    return drawn


def _faint_runs(curve: Series) -> np.ndarray:
    return np.empty((0, len(curve.x))) if curve.runs is None else curve.runs[:_MAX_RUNS]


def _share_of_axis(values: np.ndarray, limits: tuple[float, float], log: bool) -> np.ndarray:
    """Where values are along an axis, from 0 to 1 within its limits."""
    if log:
        values, limits = np.log10(values), (math.log10(limits[0]), math.log10(limits[1]))
    return (values - limits[0]) / (limits[1] - limits[0])


def _choose_points(x: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The fewest points through which straight lines look like the curves: those that stand out most come first.

    Args:
      x: `[points]`, as shares of the axis.
      heights: `[curves, points]`, likewise.

    Returns:
      Their indices in order, no more than 250 but for the edges of gaps, which are all kept.
    """
    x, holes = np.nan_to_num(x), np.isnan(heights).any(axis=0)
    edges = np.flatnonzero(np.diff(holes))
    kept = {0, len(x) - 1, *edges, *(edges + 1)} if len(x) else set()
    heights = np.nan_to_num(heights)

    def farthest(start: int, end: int) -> tuple[float, int, int, int]:
        """Minus how far a point between is off the straight line, and which."""
        if end - start < 2:
            return 0.0, start, start, end
        run = x[end] - x[start]
        slope = (x[start : end + 1] - x[start]) / (run if run else 1.0)
        line = heights[:, start, None] + slope * (heights[:, end] - heights[:, start])[:, None]
        error = np.abs(heights[:, start : end + 1] - line).max(axis=0)
        worst = int(error.argmax())
        return -float(error[worst]), start + worst, start, end

    ordered = sorted(kept)
    spans = [farthest(start, end) for start, end in itertools.pairwise(ordered)]
    heapq.heapify(spans)
    while spans and spans[0][0] < -_TOLERANCE and len(kept) < _MAX_POINTS:
        _, worst, start, end = heapq.heappop(spans)
        kept.add(worst)
        heapq.heappush(spans, farthest(start, worst))
        heapq.heappush(spans, farthest(worst, end))
    return np.array(sorted(kept), dtype=int)


def _find_y_limits(chart: Sequence[Series], y_line: float | None, log: bool) -> tuple[float, float]:
    parts = [part for curve in chart for part in (*curve[2:5], _faint_runs(curve)) if part is not None]
    line = [] if y_line is None else [y_line]
    return find_limits(np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in [*parts, line]]), log)

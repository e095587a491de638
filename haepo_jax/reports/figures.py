"""Figures of the report: arrays in, the bytes of an SVG or a PNG out.

Every drawing has units on its axes and its legend below them. An algorithm has one colour, dash and marker in all
figures (`styles`), which also differ in grey. The same arrays give the same bytes.

Values may be NaN (a gap in a curve, a run without a value) and infinite (a score that was never reached: drawn in a
lane of its own at the end of the axis, which says so).
"""

import heapq
import io
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.page import Figure
from haepo_jax.text import visible

WIDE, NARROW = 7.0, 3.9
"""Widths in inches: of the page, and of a phone."""

_MAX_POINTS = 250
_TOLERANCE = 0.001
"""How far, as a share of the height, a curve may be drawn from where it is."""
_MARKERS_PER_LINE = 6
_LANE = 0.16
"""Share of an axis that a lane for infinite values takes."""
_JITTER = 0.3
_GREY, _FAINT = "#555555", "#ececec"
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "grid.alpha": 0.5,
    "grid.color": "#cccccc",
    "grid.linewidth": 0.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "path.simplify_threshold": 0.2,
    "svg.fonttype": "path",  # the same letters everywhere
    "svg.hashsalt": "haepo_jax",
    "text.parse_math": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

Format = Literal["svg", "png"]


class Series(NamedTuple):
    """A curve: `centre` over `x`, and a band from `low` to `high` where there is one, all `[points]`."""

    label: str
    x: np.ndarray
    centre: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Style(NamedTuple):
    """How an algorithm is drawn."""

    colour: str
    dashes: tuple[float, tuple[float, ...]]
    marker: str


_SOLID: tuple[float, tuple[float, ...]] = (0, ())
_DASHED = (0, (5.0, 2.0))
_DOTTED = (0, (1.2, 1.6))
_DASHDOT = (0, (6.0, 2.0, 1.2, 2.0))
_SHORT = (0, (2.5, 1.5))
_LONG = (0, (10.0, 2.5))
_DASHES = (_SOLID, _DASHED, _DOTTED, _DASHDOT, _SHORT, _LONG)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "d", "p", "h")  # arrows to the side are for infinite values

# Okabe and Ito's colours for those that are met most, and dark tones apart from them for the rest.
STYLES = {
    "haepo log ratio": Style("#0072B2", _SOLID, "o"),
    "haepo mean": Style("#56B4E9", _DASHED, "^"),
    "haepo sum": Style("#332288", _DASHDOT, "v"),
    "ppo": Style("#D55E00", _SOLID, "s"),
    "grpo": Style("#E69F00", _DASHED, "D"),
    "dpo": Style("#009E73", _DASHDOT, "P"),
    "reinforce": Style("#CC79A7", _SOLID, "X"),
    "rloo": Style("#882255", _SHORT, "h"),
    "ucb1": Style("#000000", _DOTTED, "*"),
    "thompson": Style("#777777", _DOTTED, "d"),
    "uniform": Style("#A89B00", _LONG, "p"),
}
"""The styles of the algorithms, by the words that their labels start with."""
_ALIASES = {"haepo": "haepo log ratio", "random": "uniform", "ucb": "ucb1"}
_OTHERS = (
    Style("#44546A", _SOLID, "o"),
    Style("#44AA99", _DASHED, "^"),
    Style("#AA4499", _DASHDOT, "v"),
    Style("#8C510A", _SHORT, "s"),
    Style("#999933", _LONG, "D"),
    Style("#6699CC", _DOTTED, "P"),
    Style("#661100", _SOLID, "X"),
)
"""For labels that are no algorithm's, so that a setting does not look like one."""


def styles(labels: Iterable[str], given: Mapping[str, Style] | None = None) -> dict[str, Style]:
    """A style for each label, no two alike.

    A label that starts with the words of an algorithm ("HAEPO, log_ratio", "PPO") has its style; further ones of the
    same algorithm ("PPO, no clipping") have its colour with another dash and marker; others have what is left.

    Args:
      labels: of the curves or rows of a figure, in their order.
      given: styles that go before all this.

    Returns:
      The style of each label.
    """
    labels = list(dict.fromkeys(labels))
    result = {label: given[label] for label in labels if given and label in given}
    bases = {label: _base(label) for label in labels if label not in result}
    # Those that are an algorithm's very name come first, so that they have its style wherever their place is.
    for label, base in sorted(bases.items(), key=lambda item: (item[1] is None, _words(item[0]) != item[1])):
        if base is not None:
            candidates = [STYLES[base], *_variants(STYLES[base])]
        else:
            used = {style.colour for style in result.values()}
            fresh = [style for style in (*_OTHERS, *STYLES.values()) if style.colour not in used]
            candidates = fresh + [variant for style in STYLES.values() for variant in _variants(style)]
        result[label] = next(style for style in candidates if style not in result.values())
    return {label: result[label] for label in labels}


def curves(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    y_log: bool = False,
    x_log: bool = False,
    y_line: float | None = None,
    y_line_label: str = "",
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """Curves with bands on one pair of axes.

    Args:
      series: the curves; a long one is drawn through the points that shape it.
      x_label: what x is, with its unit.
      y_label: what y is, with its unit.
      title: above the figure.
      y_log: whether y is logarithmic; what is not positive is then left out.
      x_log: whether x is.
      y_line: a level to draw across.
      y_line_label: what that level is, for the legend.
      given: see `styles`.
      width: in inches.
      image_format: `svg` or `png`.

    Returns:
      The drawing.
    """
    return panels(
        [("", series)],
        x_label=x_label,
        y_label=y_label,
        title=title,
        y_log=y_log,
        x_log=x_log,
        y_line=y_line,
        y_line_label=y_line_label,
        given=given,
        width=width,
        image_format=image_format,
    )


def panels(
    charts: Sequence[tuple[str, Sequence[Series]]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    y_log: bool = False,
    x_log: bool = False,
    y_line: float | None = None,
    y_line_label: str = "",
    y_limits: tuple[float, float] | None = None,
    share_y: bool = False,
    columns: int = 3,
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """Curves on several pairs of axes side by side, with one legend; one below the other where it is narrow.

    Args:
      charts: for each pair of axes its title and curves.
      x_label: see `curves`, as all that is not explained here.
      y_label: see `curves`.
      title: see `curves`.
      y_log: see `curves`.
      x_log: see `curves`.
      y_line: see `curves`.
      y_line_label: see `curves`.
      y_limits: the ends of y, from the data when unset.
      share_y: whether all panels have the same y.
      columns: the most panels side by side.
      given: see `styles`.
      width: see `curves`.
      image_format: see `curves`.

    Returns:
      The drawing.
    """
    with matplotlib.rc_context(_STYLE):
        columns = 1 if width < 5 else min(columns, len(charts))
        rows = math.ceil(len(charts) / columns)
        height = {1: 0.52, 2: 0.75}.get(columns, 0.9) * width / columns if len(charts) > 1 else max(0.5 * width, 2.5)
        canvas = Canvas(figsize=(width, rows * height))
        size = (width / columns - 0.5, height - 0.5)  # of the axes, about
        grid = canvas.subplots(rows, columns, squeeze=False)
        looks = styles([curve.label for _, chart in charts for curve in chart], given)
        all_limits = _y_limits([curve for _, chart in charts for curve in chart], y_line, y_log)
        for number, axes in enumerate(grid.flat):
            if number >= len(charts):
                axes.remove()
                continue
            name, chart = charts[number]
            limits = y_limits or (all_limits if share_y else _y_limits(chart, y_line, y_log))
            _draw_curves(axes, chart, looks, limits, size, x_log=x_log, y_log=y_log)
            if y_line is not None:
                axes.axhline(y_line, color=_GREY, linewidth=1, linestyle=_DASHED, zorder=1)
            axes.set_title(_wrapped(name, size[0]))
            if number % columns == 0:
                axes.set_ylabel(_wrapped(y_label, height - 0.7))
            if number + columns >= len(charts):
                axes.set_xlabel(_wrapped(x_label, size[0]))
        handles = [_handle(label, style) for label, style in looks.items()]
        if y_line is not None and y_line_label:
            handles.append(Line2D([], [], color=_GREY, linewidth=1, linestyle=_DASHED, label=visible(y_line_label)))
        return _encode(canvas, title, handles if len(handles) > 1 else [], image_format)


def profiles(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str = "share of runs above it",
    title: str = "",
    x_log: bool = False,
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """Performance profiles: the share of runs, from 0 to 1, above each score.

    Args:
      series: for each algorithm the scores as `x` and the shares as `centre`, with their bands.
      x_label: what the score is, with its unit.
      y_label: what is counted.
      title: above the figure.
      x_log: whether the scores are on a logarithmic axis.
      given: see `styles`.
      width: in inches.
      image_format: `svg` or `png`.

    Returns:
      The drawing.
    """
    return panels(
        [("", series)],
        x_label=x_label,
        y_label=y_label,
        title=title,
        x_log=x_log,
        y_limits=(-0.02, 1.02),
        given=given,
        width=width,
        image_format=image_format,
    )


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    x_label: str,
    title: str = "",
    x_log: bool = False,
    reference: float | None = None,
    never: str = "never",
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """A point and an interval in each row.

    Args:
      rows: label, value, low and high, from top to bottom.
      x_label: what the values are, with their unit.
      title: above the figure.
      x_log: whether the axis is logarithmic.
      reference: a value to draw a line at, such as that of a tie.
      never: what an infinite value means.
      given: see `styles`.
      width: in inches.
      image_format: `svg` or `png`.

    Returns:
      The drawing.
    """
    looks = styles([row[0] for row in rows], given)
    with matplotlib.rc_context(_STYLE):
        names, tall = _names([row[0] for row in rows], width)
        canvas = Canvas(figsize=(width, 0.75 + max(0.27, tall + 0.06) * max(len(rows), 2)))
        axes = canvas.subplots()
        values = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 3)
        lanes = _lanes(axes, values, x_log, reference, never, width)
        for number, (label, *_) in enumerate(rows):
            _draw_interval(axes, lanes, number, values[number], looks[label])
        _rows(axes, names)
        axes.set_xlabel(_wrapped(x_label, 0.7 * width))
        return _encode(canvas, title, [], image_format)


def bars_by_group(
    groups: Sequence[str],
    arms: Sequence[str],
    values: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    *,
    x_label: str,
    title: str = "",
    x_log: bool = False,
    reference: float | None = None,
    never: str = "never",
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """A point and an interval for each arm in each group, for ablations.

    Args:
      groups: their names, from top to bottom.
      arms: the names of what is compared within each.
      values: `[groups, arms]`; NaN where an arm is not in a group.
      lows: `[groups, arms]`.
      highs: `[groups, arms]`.
      x_label: what the values are, with their unit.
      title: above the figure.
      x_log: whether the axis is logarithmic.
      reference: a value to draw a line at.
      never: what an infinite value means.
      given: see `styles`.
      width: in inches.
      image_format: `svg` or `png`.

    Returns:
      The drawing.
    """
    looks = styles(arms, given)
    points = np.stack([np.asarray(part, dtype=np.float64) for part in (values, lows, highs)], axis=-1)
    if points.shape != (len(groups), len(arms), 3):
        raise ValueError(f"Values are [{len(groups)} groups, {len(arms)} arms], not {list(points.shape[:2])}.")
    with matplotlib.rc_context(_STYLE):
        names, tall = _names(groups, width)
        canvas = Canvas(figsize=(width, 0.75 + len(groups) * max(0.16 * len(arms) + 0.18, tall + 0.06)))
        axes = canvas.subplots()
        lanes = _lanes(axes, points, x_log, reference, never, width)
        step = 0.8 / len(arms)
        for group in range(len(groups)):
            if group % 2:
                axes.axhspan(group - 0.5, group + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
            for number, arm in enumerate(arms):
                place = group + (number - (len(arms) - 1) / 2) * step
                _draw_interval(axes, lanes, place, points[group, number], looks[arm], empty="")
        _rows(axes, names)
        axes.set_xlabel(_wrapped(x_label, 0.7 * width))
        handles = [_handle(arm, style, line=False) for arm, style in looks.items()]
        return _encode(canvas, title, handles, image_format)


def strip(
    rows: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    title: str = "",
    x_log: bool = False,
    threshold: float | None = None,
    better: Literal["higher", "lower"] = "higher",
    never: str = "never",
    given: Mapping[str, Style] | None = None,
    width: float = WIDE,
    image_format: Format = "svg",
) -> bytes:
    """A dot for each seed, in a row for each algorithm, and a bar at the median.

    Args:
      rows: label and value of each seed; NaN for one that diverged, which counts as failed and is marked in the label.
      x_label: what the values are, with their unit.
      title: above the figure.
      x_log: whether the axis is logarithmic.
      threshold: drawn as a line; seeds that fall short of it have hollow dots, and are counted on the right.
      better: whether falling short is to be below the threshold, or above it.
      never: what an infinite value means.
      given: see `styles`.
      width: in inches.
      image_format: `svg` or `png`.

    Returns:
      The drawing.
    """
    looks = styles([label for label, _ in rows], given)
    arrays = [np.asarray(values, dtype=np.float64).ravel() for _, values in rows]
    gone = [int(np.isnan(values).sum()) for values in arrays]
    labels = [f"{row[0]} ({count} diverged)" if count else row[0] for row, count in zip(rows, gone, strict=True)]
    with matplotlib.rc_context(_STYLE):
        names, tall = _names(labels, width)
        canvas = Canvas(figsize=(width, 0.8 + max(0.36, tall + 0.06) * max(len(rows), 2)))
        axes = canvas.subplots()
        lanes = _lanes(axes, np.concatenate([*arrays, np.empty(0)]), x_log, threshold, never, width)
        for number, ((label, _), values) in enumerate(zip(rows, arrays, strict=True)):
            ordered = np.sort(values[~np.isnan(values)])
            # The golden ratio spreads neighbours apart without chance.
            places = number + _JITTER * (2 * (np.arange(ordered.size) * 0.6180339887 % 1) - 1)
            at = lanes.at(ordered, 0.7)
            failed = np.zeros(ordered.shape, bool)
            if threshold is not None:
                failed = ordered < threshold if better == "higher" else ordered > threshold
                axes.text(
                    1.01,
                    number,
                    f"{failed.sum() + gone[number]} of {values.size}",
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    color=_GREY,
                )
            for chosen, fill in ((~failed, looks[label].colour), (failed, "white")):
                axes.plot(
                    at[chosen],
                    places[chosen],
                    linestyle="none",
                    marker="o",
                    markersize=3.4,
                    markerfacecolor=fill,
                    markeredgecolor=looks[label].colour,
                    markeredgewidth=0.8,
                    alpha=0.8,
                )
            if not ordered.size:
                _say_row_empty(axes, number, "no value")
            else:
                # The one in the middle, never between two, so that it may be infinite.
                middle = lanes.at(ordered[(ordered.size - 1) // 2])
                axes.plot([middle, middle], [number - 0.4, number + 0.4], color="black", linewidth=2, zorder=4)
        _rows(axes, names)
        axes.set_xlabel(_wrapped(x_label, 0.7 * width))
        handles = [
            Line2D([], [], color="black", linewidth=2, marker="|", linestyle="none", markersize=11, label="median")
        ]
        if threshold is not None:
            axes.text(1.01, 1, "failed", transform=axes.transAxes, va="bottom", color=_GREY)
            side = "below" if better == "higher" else "above"
            handles += [
                Line2D([], [], color=_GREY, linewidth=1, linestyle=_DASHED, label=f"{threshold:g}"),
                _dot("a seed", _GREY),
                _dot(f"a seed {side} {threshold:g}", "white"),
            ]
        return _encode(canvas, title, handles, image_format)


def responsive(draw: Callable[..., bytes], *args: Any, alt: str, caption: str, **options: Any) -> Figure:
    """A figure for the page, drawn for wide and for narrow screens.

    Args:
      draw: a function of this module.
      *args: its data.
      alt: see `report.Figure`.
      caption: see `report.Figure`.
      **options: its options.

    Returns:
      The `report.Figure`.
    """
    wide, narrow = (draw(*args, **options, width=width) for width in (WIDE, NARROW))
    return Figure(wide, alt, caption, narrow)


def _words(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()


def _base(label: str) -> str | None:
    """The algorithm whose words the label starts with."""
    words = f"{_words(label)} "
    names = [name for name in (*STYLES, *_ALIASES) if words.startswith(f"{name} ")]
    name = max(names, key=len, default=None)
    return _ALIASES.get(name, name) if name else None


def _variants(style: Style) -> list[Style]:
    """Styles of the same colour, those of which neither dash nor marker is the same first."""
    others = [
        Style(style.colour, _DASHES[(number + turn) % len(_DASHES)], marker)
        for turn in range(len(_DASHES))
        for number, marker in enumerate(_MARKERS)
    ]
    return sorted(others, key=lambda other: other.dashes == style.dashes or other.marker == style.marker)


def _draw_curves(
    axes: Axes,
    chart: Sequence[Series],
    looks: Mapping[str, Style],
    y_limits: tuple[float, float],
    size: tuple[float, float],
    *,
    x_log: bool,
    y_log: bool,
) -> None:
    if x_log:
        axes.set_xscale("log")
    if y_log:
        axes.set_yscale("log")
    x_values = np.concatenate([np.asarray(curve.x, dtype=np.float64) for curve in chart] or [np.empty(0)])
    x_limits = _limits(x_values, x_log, 0.02)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)
    if not any(np.isfinite(_drawable(curve.centre, y_log)).any() for curve in chart):
        _say_empty(axes)
    for number, curve in enumerate(chart):
        style = looks[curve.label]
        x, centre = _drawable(curve.x, x_log), _drawable(curve.centre, y_log)
        # An infinite end of a band is drawn at the edge, and so is one that a logarithm lacks.
        ends = [end for end in (curve.low, curve.high) if end is not None and not np.isnan(end).all()]
        band = [np.clip(end, *y_limits) for end in ends]
        heights = np.stack([_share(y, y_limits, y_log) for y in (centre, *band)])
        shares = _share(x, x_limits, x_log)
        points = _telling_points(shares, heights)
        if len(band) == 2:
            low, high = (end[points] for end in band)
            axes.fill_between(x[points], low, high, color=style.colour, alpha=0.13, linewidth=0, zorder=2)
        axes.plot(x[points], centre[points], color=style.colour, linestyle=style.dashes, zorder=3)
        # Markers of the curves alternate along x.
        targets = (np.arange(_MARKERS_PER_LINE) + (number + 0.5) / len(chart)) / _MARKERS_PER_LINE
        known = np.flatnonzero(np.isfinite(shares) & np.isfinite(heights[0]))
        if known.size:
            marked = np.unique(known[np.abs(shares[known] - targets[:, None]).argmin(axis=1)])
            axes.plot(
                x[marked],
                centre[marked],
                color=style.colour,
                linestyle="none",
                marker=style.marker,
                markeredgewidth=0,
                zorder=3,
            )
    width, height = size
    for axis, limits, log, room in (
        (axes.xaxis, x_limits, x_log, int(width / 0.55)),
        (axes.yaxis, y_limits, y_log, int(height / (0.3 if y_log else 0.45))),
    ):
        axis.set_major_locator(_locator(*limits, log, max(3, room)))
        axis.set_major_formatter(_Numbers(log))
        axis.set_minor_locator(ticker.NullLocator())


def _share(values: np.ndarray, limits: tuple[float, float], log: bool) -> np.ndarray:
    """Where values are along an axis, from 0 to 1 within its limits."""
    if log:
        values, limits = np.log10(values), (math.log10(limits[0]), math.log10(limits[1]))
    return (values - limits[0]) / (limits[1] - limits[0])


def _telling_points(x: np.ndarray, heights: np.ndarray) -> np.ndarray:
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


def _drawable(values: np.ndarray, log: bool) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)


def _limits(values: np.ndarray, log: bool, margin: float = 0.05) -> tuple[float, float]:
    """The ends of an axis that shows all values that can be drawn."""
    values = _drawable(values, log)
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


def _y_limits(chart: Sequence[Series], y_line: float | None, log: bool) -> tuple[float, float]:
    parts = [part for curve in chart for part in (curve.centre, curve.low, curve.high) if part is not None]
    line = [] if y_line is None else [y_line]
    return _limits(np.concatenate([np.asarray(part, dtype=np.float64) for part in [*parts, line]]), log)


def _locator(low: float, high: float, log: bool, room: int) -> ticker.Locator:
    """Round numbers along an axis that has room for so many."""
    decades = math.log10(high / low) if log else 0.0
    if decades < 0.7:
        return ticker.MaxNLocator(room, steps=[1, 2, 2.5, 5, 10])
    fitting = (subs for subs in ((1.0, 2.0, 5.0), (1.0, 3.0)) if decades * len(subs) <= room)
    return ticker.LogLocator(subs=next(fitting, (1.0,)), numticks=room + 1)


class _Numbers(ticker.Formatter):
    """Numbers along an axis in one unit, or each in its own where it is logarithmic."""

    def __init__(self, log: bool) -> None:
        self.log = log

    def __call__(self, value: float, pos: int | None = None) -> str:
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        largest = max((abs(value) for value in values), default=0.0)
        return [self._text(value, abs(value) if self.log else largest) for value in values]

    @staticmethod
    def _text(value: float, size: float) -> str:
        if value == 0 or size >= 1e9:
            return f"{value:.3g}"
        if size >= 1e6:
            return f"{value / 1e6:.4g}M"
        if size >= 1e4:
            return f"{value / 1e3:.4g}k"
        return f"{value:.6g}"


class _Lanes(NamedTuple):
    """Where values are drawn along x: infinite ones in a lane of their own at the end of the axis."""

    below: tuple[float, float]
    above: tuple[float, float]
    log: bool

    def at(self, values: np.ndarray, breadth: float = 0.0) -> np.ndarray:
        """Places of the values; those within a lane are spread over a share `breadth` of it."""
        values = np.asarray(values, dtype=np.float64)
        low = np.isneginf(values) | (self.log & (values <= 0))  # whose logarithm is endlessly low
        result = values.copy()
        for within, (start, end) in ((low, self.below), (np.isposinf(values), self.above)):
            count = int(within.sum())
            shares = 0.5 + breadth * ((np.arange(count) + 0.5) / max(count, 1) - 0.5)
            result[within] = start * (end / start) ** shares if self.log else start + (end - start) * shares
        return result


def _lanes(axes: Axes, values: np.ndarray, log: bool, reference: float | None, never: str, width: float) -> _Lanes:
    """Sets up x for the values, with a lane at an end where some are infinite."""
    values = values.ravel()
    shown = values if reference is None else np.append(values, reference)
    low, high = _limits(shown, log)
    if log:
        axes.set_xscale("log")

    def place(share: float) -> float:
        return low * (high / low) ** share if log else low + (high - low) * share

    lane = _LANE * (1.0 if width >= 5 else 1.5)
    lanes = _Lanes((place(-lane), low), (high, place(1 + lane)), log)
    below = bool(np.isneginf(values).any() or (log and (values <= 0).any()))
    above = bool(np.isposinf(values).any())
    # A number beside the lane would run into the lane's name.
    first, last = place(lane / 3 * below), place(1 - lane / 3 * above)
    ticks = [tick for tick in _locator(low, high, log, int(width)).tick_values(low, high) if first <= tick <= last]
    if np.isnan(_drawable(shown, log)).all():
        ticks = []
    labels = _Numbers(log).format_ticks(ticks)
    for there, ends, value in ((below, lanes.below, -np.inf), (above, lanes.above, np.inf)):
        if there:
            axes.axvspan(*ends, color=_FAINT, linewidth=0, zorder=0.5)
            ticks.append(float(lanes.at(np.array(value))))
            labels.append(visible(never))
    axes.set_xlim(lanes.below[0] if below else low, lanes.above[1] if above else high)
    axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ticker.FixedFormatter(labels))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    if reference is not None:
        axes.axvline(reference, color=_GREY, linewidth=1, linestyle=_DASHED, zorder=1)
    return lanes


def _draw_interval(
    axes: Axes,
    lanes: _Lanes,
    row: float,
    values: np.ndarray,
    style: Style,
    empty: str = "no value",
) -> None:
    """A point and its interval; an arrow where an end is infinite."""
    value, low, high = values
    if np.isnan(value):
        _say_row_empty(axes, row, empty)
        return
    axes.plot(lanes.at(np.array([low, high])), [row, row], color=style.colour, linewidth=1.8, zorder=2)
    for end, arrow in ((low, "<"), (high, ">")):
        if np.isinf(end) and not np.isinf(value):
            axes.plot(lanes.at(end), row, color=style.colour, marker=arrow, markersize=5, zorder=2)
    marker = style.marker if np.isfinite(value) else ">" if value > 0 else "<"
    axes.plot(lanes.at(value), row, color=style.colour, marker=marker, markersize=6.5, markeredgewidth=0, zorder=3)


def _say_empty(axes: Axes) -> None:
    """Says in words that there is nothing to draw."""
    axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", color=_GREY, style="italic")


def _say_row_empty(axes: Axes, row: float, words: str) -> None:
    axes.text(0.02, row, words, transform=axes.get_yaxis_transform(), va="center", color=_GREY, style="italic")


def _names(labels: Sequence[str], width: float) -> tuple[list[str], float]:
    """The names of the rows of a figure in lines that fit beside it, and the height of the longest in inches."""
    names = [_wrapped(label, 0.3 * width) for label in labels]
    return names, 0.16 * max((name.count("\n") + 1 for name in names), default=1)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows, the first at the top."""
    if not names:
        _say_empty(axes)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _handle(label: str, style: Style, line: bool = True) -> Line2D:
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.dashes if line else _SOLID,
        marker=style.marker,
        markeredgewidth=0,
        label=visible(label),
    )


def _dot(label: str, fill: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker="o", markersize=4, markerfacecolor=fill, markeredgecolor=_GREY, label=label
    )


def _wrapped(text: str, inches: float, size: float = 9) -> str:
    """Text in lines that fit, a letter being 0.57 of its size wide."""
    return textwrap.fill(visible(text), max(8, int(inches * 72 / (0.57 * size))), break_long_words=False)


def _encode(canvas: Canvas, title: str, handles: Sequence[Line2D], image_format: Format) -> bytes:
    """Adds title and legend, for which the figure grows, and writes the figure."""
    width, height = canvas.get_size_inches()
    if title:
        text = _wrapped(title, 0.94 * width, 10.5)
        canvas.suptitle(text, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        height += 0.19 * (text.count("\n") + 1)
    if handles:
        height += _add_legend(canvas, handles)
    canvas.set_size_inches(width, height)
    file = io.BytesIO()
    if image_format == "svg":
        canvas.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _shortened(file.getvalue())
    canvas.savefig(file, format="png", dpi=200, metadata={"Software": None})
    return file.getvalue()


def _add_legend(canvas: Canvas, handles: Sequence[Line2D]) -> float:
    """Puts a legend below the axes, in as many columns as fit, and returns its height in inches."""
    for columns in range(min(len(handles), 5), 0, -1):
        options: Any = {"handles": list(handles), "ncols": columns, "columnspacing": 1.4, "loc": "outside lower left"}
        # It is measured on a figure of its own, where nothing else is to be laid out.
        trial = Canvas(figsize=(canvas.get_figwidth(), canvas.get_figheight()))
        box = trial.legend(**options).get_window_extent()
        if box.width <= 0.98 * trial.bbox.width or columns == 1:
            canvas.legend(**options)
            return float(box.height / trial.dpi)
    raise AssertionError("One column is always taken.")


def _shortened(svg: bytes) -> bytes:
    """The same drawing in half the bytes: coordinates to a tenth of a point, and a style once for all its markers."""

    def rounded(match: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), match[0])

    def grouped(match: re.Match[str]) -> str:
        return f'<g{match[1]} style="{match[3]}">' + match[2].replace(f' style="{match[3]}"', "") + "</g>"

    text = re.sub(r">\s+<", "><", svg.decode())
    text = re.sub(r'(?<=\s)(?:d|x|y)="[^"]*"', rounded, text)
    return re.sub(
        r'<g( clip-path="[^"]*")>(<use [^>]* style="([^"]*)"/>(?:<use [^>]* style="\3"/>)*)</g>', grouped, text
    ).encode()

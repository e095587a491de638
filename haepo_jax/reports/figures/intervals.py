"""A point and its interval in each row."""

from collections.abc import Sequence
from typing import Any, Unpack

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.figures.axes import Lanes, add_lanes, name_rows, say_row_empty, wrap_row_names
from haepo_jax.reports.figures.readings import name_part, read_axes, read_rows, say
from haepo_jax.reports.figures.rendering import render
from haepo_jax.reports.figures.style import RC, STRIPE, Frame, Options, Style, assign_styles, make_handle, wrap


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    x_label: str,
    x_log: bool = False,
    reference: float | None = None,
    never: str = "never",
    style: Style | None = None,
    **options: Unpack[Options],
) -> bytes:
    """Draws a point and an interval in each row.

    Args:
      rows: label, value, low and high, from top to bottom.
      x_label: what the values are, with their unit.
      x_log: whether the axis is logarithmic.
      reference: a value to draw a line at, such as that of a tie.
      never: what an infinite value means.
      style: of all rows; unset, each has its own.
      **options: see `Frame`.

    Returns:
      The drawing.
    """
    frame, labels = Frame(**options), [row[0] for row in rows]
    looks = assign_styles(labels, frame.families) if style is None else dict.fromkeys(labels, style)
    with matplotlib.rc_context(RC):
        names, tall = wrap_row_names(labels, frame.width)
        canvas = Canvas(figsize=(frame.width, 0.75 + max(0.27, tall + 0.06) * max(len(rows), 2)))
        axes = canvas.subplots()
        values = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 3)
        lanes = add_lanes(axes, values, frame, log=x_log, reference=reference, never=never)
        for number, label in enumerate(labels):
            if np.isnan(values[number, 0]):
                say_row_empty(axes, number)
            else:
                _draw_interval(axes, lanes, number, values[number], looks[label])
        name_rows(axes, names)
        axes.set_xlabel(wrap(x_label, 0.7 * frame.width))
        read = read_rows(
            (number, f"{row[0]}: {say(row[1], row[2], row[3], never)}") for number, row in enumerate(rows)
        )
        return render(canvas, frame, readings=[read_axes(axes, 0, rows=read)])


def grouped_intervals(
    groups: Sequence[str],
    arms: Sequence[str],
    values: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    *,
    x_label: str,
    x_log: bool = False,
    reference: float | None = None,
    never: str = "never",
    **options: Unpack[Options],
) -> bytes:
    """Draws a point and an interval for each arm in each group, for ablations.

    Args:
      groups: their names, from top to bottom.
      arms: the names of what is compared within each.
      values: `[groups, arms]`; NaN where an arm is not in a group.
      lows: `[groups, arms]`.
      highs: `[groups, arms]`.
      x_label: see `intervals`, as for the other options.
      x_log: see `intervals`.
      reference: see `intervals`.
      never: see `intervals`.
      **options: see `Frame`.

    Returns:
      The drawing.

    Raises:
      ValueError: the values are of another shape.
    """
    frame = Frame(**options)
    looks = assign_styles(arms, frame.families)
    points = np.stack([np.asarray(part, dtype=np.float64) for part in (values, lows, highs)], axis=-1)
    if points.shape != (len(groups), len(arms), 3):
        raise ValueError(f"Values are [{len(groups)} groups, {len(arms)} arms], not {list(points.shape[:2])}.")
    with matplotlib.rc_context(RC):
        names, tall = wrap_row_names(groups, frame.width)
        canvas = Canvas(figsize=(frame.width, 0.75 + len(groups) * max(0.16 * len(arms) + 0.18, tall + 0.06)))
        axes = canvas.subplots()
        lanes = add_lanes(axes, points, frame, log=x_log, reference=reference, never=never)
        step, read = 0.8 / len(arms), []
        for group in range(len(groups)):
            if group % 2:
                axes.axhspan(group - 0.5, group + 0.5, color=STRIPE, linewidth=0, zorder=0)
            for number, arm in enumerate(arms):
                if not np.isnan(points[group, number, 0]):
                    place = group + (number - (len(arms) - 1) / 2) * step
                    drawn = _draw_interval(axes, lanes, place, points[group, number], looks[arm])
                    for part, artist in enumerate(drawn):
                        name_part(artist, number, f"mark-{group}-{part}")
                    read.append((place, f"{groups[group]}, {arm}: {_say_point(points[group, number], never)}"))
        name_rows(axes, names)
        axes.set_xlabel(wrap(x_label, 0.7 * frame.width))
        handles = [make_handle(arm, style, line=False) for arm, style in looks.items()]
        readings = [read_axes(axes, 0, rows=read_rows(read))]
        return render(canvas, frame, handles, readings=readings, series=len(handles))


def _say_point(point: np.ndarray, never: str) -> str:
    value, low, high = map(float, point)
    return say(value, low, high, never)


def _draw_interval(axes: Axes, lanes: Lanes, row: float, values: np.ndarray, style: Style) -> list[Line2D]:
    """Draws a point and its interval, an arrow where an end is infinite; returns the parts."""
    value, low, high = values
    drawn = axes.plot(lanes.place(np.array([low, high])), [row, row], color=style.colour, linewidth=1.8, zorder=2)
    for end, arrow in ((low, "<"), (high, ">")):
        if np.isinf(end) and not np.isinf(value):
            drawn += axes.plot(lanes.place(end), row, color=style.colour, marker=arrow, markersize=5, zorder=2)
    marker = style.marker if np.isfinite(value) else ">" if value > 0 else "<"
    point: dict[str, Any] = {
        "color": style.colour,
        "marker": marker,
        "markersize": 6.5,
        "markeredgewidth": 0,
        "zorder": 3,
    }
    return drawn + axes.plot(lanes.place(value), row, **point)

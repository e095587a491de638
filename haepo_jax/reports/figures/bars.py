"""Bars from nothing to a value, with the value in words."""

import math
from collections.abc import Sequence
from typing import Unpack

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from haepo_jax.reports.figures.axes import name_rows, wrap_row_names
from haepo_jax.reports.figures.readings import read_axes, read_rows
from haepo_jax.reports.figures.rendering import render
from haepo_jax.reports.figures.style import GREY, RC, Frame, Options, assign_styles, wrap
from haepo_jax.text import visible

_ROW, _TITLE = 0.27, 0.42
"""Heights in inches, of a bar with its room and of a panel's title with its room."""

Row = tuple[str, float, str]
"""Label, value at least 0 (NaN where there is none), and the value in words."""


def bars(groups: Sequence[tuple[str, Sequence[Row]]], **options: Unpack[Options]) -> bytes:
    """Draws a bar in each row of each group, each group on an axis of its own.

    Args:
      groups: what the values are, with their unit, and the rows from top to bottom; a label looks the same in all.
      **options: see `Frame`.

    Returns:
      The drawing.
    """
    frame = Frame(**options)
    looks = assign_styles([label for _, rows in groups for label, _, _ in rows], frame.families)
    with matplotlib.rc_context(RC):
        heights = [_TITLE + _ROW * max(len(rows), 2) for _, rows in groups]
        canvas = Canvas(figsize=(frame.width, sum(heights)))
        panels = canvas.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
        readings = []
        for number, (axes, (title, rows)) in enumerate(zip(panels, groups, strict=True)):
            axes.set_title(wrap(title, 0.9 * frame.width), x=0)
            _draw_rows(axes, rows, frame.width, {label: style.colour for label, style in looks.items()})
            read = read_rows((row, f"{label}: {words}") for row, (label, _, words) in enumerate(rows))
            readings.append(read_axes(axes, number, rows=read))
        return render(canvas, frame, readings=readings)


def _draw_rows(axes: Axes, rows: Sequence[Row], width: float, colours: dict[str, str]) -> None:
    longest = max((value for _, value, _ in rows if not math.isnan(value)), default=0.0) or 1.0
    for number, (label, value, words) in enumerate(rows):
        drawn = 0.0 if math.isnan(value) else value
        axes.barh(number, drawn, height=0.62, color=colours[label], linewidth=0)
        axes.annotate(visible(words), (drawn, number), (4, 0), textcoords="offset points", va="center", color=GREY)
    name_rows(axes, wrap_row_names([label for label, _, _ in rows], width)[0])
    axes.set_xlim(0, 1.3 * longest)  # with room for the words of the longest
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)

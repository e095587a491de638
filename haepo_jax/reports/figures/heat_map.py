"""A heat map: a coloured cell for each pair."""

import math
from collections.abc import Sequence
from typing import Unpack

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.figures.axes import NumberFormatter, find_limits
from haepo_jax.reports.figures.readings import read_axes, read_cells
from haepo_jax.reports.figures.rendering import render
from haepo_jax.reports.figures.style import FAINT, GREY, HEAT, RC, Frame, Options, wrap
from haepo_jax.reports.formatting import format_number
from haepo_jax.text import visible

FAILED = "✕"
"""The sign of failure in a cell."""
_DARK_INK, _LIGHT_INK = "#010101", "#fefefe"
"""Of values on the colours of cells, which stay as they are on a dark ground, where black and white change."""
_LETTER = 0.6 * 9 / 72
"""Inches that a letter takes."""
_LINE = 0.17
"""Inches from a line of text to the next."""


def heat_map(
    values: np.ndarray,
    failed: np.ndarray,
    *,
    x_names: Sequence[str],
    y_names: Sequence[str],
    x_label: str,
    y_label: str,
    value_label: str,
    failed_label: str,
    limits: tuple[float, float] | None = None,
    **options: Unpack[Options],
) -> bytes:
    """Draws a coloured cell for each pair; its value stands in it where all cells have room for that.

    A cell where some failed has a cross, with the share of those that did where there is room.

    Args:
      values: `[rows, columns]`, finite; NaN of a cell that is empty.
      failed: `[rows, columns]` shares in [0, 1].
      x_names: of the columns.
      y_names: of the rows, from top to bottom.
      x_label: what the columns are, with their unit.
      y_label: what the rows are, with their unit.
      value_label: what the values are, with their unit.
      failed_label: what failed, for the legend.
      limits: the ends of the colours, so that several heat maps have the same; from the values when unset.
      **options: see `Frame`.

    Returns:
      The drawing.

    Raises:
      ValueError: the names do not fit the values.
    """
    values, failed = np.asarray(values, np.float64), np.nan_to_num(np.asarray(failed, np.float64))
    if not values.shape == failed.shape == (len(y_names), len(x_names)):
        raise ValueError(
            f"Values and failures are [{len(y_names)} rows, {len(x_names)} columns], not {list(values.shape)} and "
            f"{list(failed.shape)}."
        )
    frame = Frame(**options)
    (rows, columns), width = values.shape, frame.width
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        y_words = [wrap(name, 0.22 * width) for name in y_names]
        beside = 0.5 + _LETTER * _count_letters(y_words)
        cell = (width - beside - 0.1) / columns
        texts = [[_write_cell(*pair) for pair in zip(*row, strict=True)] for row in zip(values, failed, strict=True)]
        written = _LETTER * max(_count_letters(lines) for row in texts for lines in row) <= cell
        lines = max(len(lines) for row in texts for lines in row) if written else 1
        lines = max(lines, *(name.count("\n") + 1 for name in y_words))
        x_words, below, upright = _fit_names_below(x_names, cell)
        inside = rows * (0.12 + _LINE * lines)
        y_name = wrap(y_label, inside)
        inside = max(inside, _LETTER * _count_letters([y_name]))
        canvas = Canvas(figsize=(width, inside + below + 1.15))  # with the colour bar and the labels
        axes = canvas.subplots()
        axes.set_facecolor(FAINT)
        scale = Normalize(*find_limits(values if limits is None else np.array(limits), False, 0.0))
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(values), cmap=HEAT, norm=scale, edgecolors="white", linewidth=1, zorder=1
        )
        colours = mesh.to_rgba(values)
        axes.set_ylim(rows, 0)
        for row in range(rows):
            for column in range(columns):
                colour = GREY if np.isnan(values[row, column]) else _choose_ink(colours[row, column])
                place = (column + 0.5, row + 0.5)
                if written:
                    text = "\n".join(texts[row][column])
                    axes.text(*place, text, ha="center", va="center", color=colour, linespacing=1.15)
                elif failed[row, column] > 0:
                    axes.plot(*place, linestyle="none", marker="x", markersize=5, color=colour)
        each = math.ceil(_LINE / cell) if upright else 1  # upright names need their height
        axes.set_xticks(np.arange(0, columns, each) + 0.5, x_words[::each], rotation=90 if upright else 0)
        axes.set_yticks(np.arange(rows) + 0.5, y_words)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(wrap(x_label, width - beside))
        axes.set_ylabel(y_name)
        _add_colour_bar(canvas, axes, mesh, value_label, width)
        handles = [_make_cross(failed_label)] if (failed > 0).any() else []
        read = [
            [f"{y_label} {y}, {x_label} {x}: {' '.join(text)}" for x, text in zip(x_names, row, strict=True)]
            for y, row in zip(y_names, texts, strict=True)
        ]
        return render(canvas, frame, handles, readings=[read_axes(axes, 0, cells=read_cells(read))])


def _count_letters(words: Sequence[str]) -> int:
    return max(len(line) for word in words for line in word.split("\n"))


def _write_cell(value: float, share: float) -> list[str]:
    """The lines of text in a cell."""
    if np.isnan(value):
        return ["–"]
    return [format_number(value), f"{FAILED} {share:.0%}" if share >= 0.005 else f"{FAILED} <1%"][: 1 + (share > 0)]


def _fit_names_below(names: Sequence[str], cell: float) -> tuple[list[str], float, bool]:
    """The names of the columns, the inches that they take below, and whether they stand upright for want of room."""
    names = list(map(visible, names))
    words = ["\n".join(_break_at_spaces(name, int(cell / _LETTER))) for name in names]
    if _count_letters(words) * _LETTER <= cell:
        return words, _LINE * max(word.count("\n") + 1 for word in words), False
    return names, _LETTER * _count_letters(names), True


def _break_at_spaces(name: str, letters: int) -> list[str]:
    """A name in lines of at most so many letters, broken at its spaces."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _choose_ink(colour: np.ndarray) -> str:
    """Dark or light ink, whichever is read better on a colour (contrast as of WCAG 2)."""
    linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)
    return _DARK_INK if linear[:3] @ [0.2126, 0.7152, 0.0722] > 0.179 else _LIGHT_INK


def _add_colour_bar(canvas: Canvas, axes: Axes, mesh: matplotlib.cm.ScalarMappable, label: str, width: float) -> None:
    bar = canvas.colorbar(mesh, ax=axes, orientation="horizontal", aspect=50, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_locator(ticker.MaxNLocator(int(width)))
    bar.ax.xaxis.set_major_formatter(NumberFormatter(False))
    bar.set_label(wrap(label, 0.8 * width))


def _make_cross(label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker="x", markersize=5, color=GREY, label=visible(label))

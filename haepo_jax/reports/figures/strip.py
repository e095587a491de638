"""A dot for each seed, in rows."""

from collections.abc import Sequence
from typing import Literal, Unpack

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.figures.axes import add_lanes, name_rows, say_row_empty, wrap_row_names
from haepo_jax.reports.figures.readings import read_axes, read_rows, say
from haepo_jax.reports.figures.rendering import render
from haepo_jax.reports.figures.style import GREY, NO_VALUE, RC, Frame, Options, assign_styles, make_line_handle, wrap
from haepo_jax.text import format_value

_JITTER = 0.3


def strip(
    rows: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    x_log: bool = False,
    threshold: float | None = None,
    better: Literal["higher", "lower"] = "higher",
    never: str = "never",
    **options: Unpack[Options],
) -> bytes:
    """Draws a dot for each seed, in a row for each algorithm, and a bar at the median.

    Args:
      rows: label and value of each seed; NaN for one that diverged, which counts as failed and is in the label.
      x_label: what the values are, with their unit.
      x_log: whether the axis is logarithmic.
      threshold: drawn as a line; seeds that fall short of it have hollow dots, and are counted on the right.
      better: whether falling short is to be below the threshold, or above it.
      never: what an infinite value means.
      **options: see `Frame`.

    Returns:
      The drawing.
    """
    frame = Frame(**options)
    looks = assign_styles([label for label, _ in rows], frame.families)
    arrays = [np.asarray(values, dtype=np.float64).ravel() for _, values in rows]
    gone = [int(np.isnan(values).sum()) for values in arrays]
    labels = [f"{row[0]} ({count} diverged)" if count else row[0] for row, count in zip(rows, gone, strict=True)]
    with matplotlib.rc_context(RC):
        names, tall = wrap_row_names(labels, frame.width)
        canvas = Canvas(figsize=(frame.width, 0.8 + max(0.36, tall + 0.06) * max(len(rows), 2)))
        axes = canvas.subplots()
        values = np.concatenate([*arrays, np.empty(0)])
        lanes = add_lanes(axes, values, frame, log=x_log, reference=threshold, never=never)
        for number, ((label, _), values) in enumerate(zip(rows, arrays, strict=True)):
            ordered = np.sort(values[~np.isnan(values)])
            # The golden ratio spreads neighbours apart without chance.
            heights = number + _JITTER * (2 * (np.arange(ordered.size) * 0.6180339887 % 1) - 1)
            places = lanes.place(ordered, 0.7)
            failed = np.zeros(ordered.shape, bool)
            if threshold is not None:
                failed = ordered < threshold if better == "higher" else ordered > threshold
                axes.text(
                    1.01,
                    number,
                    f"{failed.sum() + gone[number]} of {values.size}",
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    color=GREY,
                )
            for chosen, fill in ((~failed, looks[label].colour), (failed, "white")):
                axes.plot(
                    places[chosen],
                    heights[chosen],
                    linestyle="none",
                    marker="o",
                    markersize=3.4,
                    markerfacecolor=fill,
                    markeredgecolor=looks[label].colour,
                    markeredgewidth=0.8,
                    alpha=0.8,
                )
            if not ordered.size:
                say_row_empty(axes, number)
            else:
                # The one in the middle, never between two, so that it may be infinite.
                middle = lanes.place(ordered[(ordered.size - 1) // 2])
                axes.plot([middle, middle], [number - 0.4, number + 0.4], color="black", linewidth=2, zorder=4)
        name_rows(axes, names)
        axes.set_xlabel(wrap(x_label, 0.7 * frame.width))
        handles = [
            Line2D([], [], color="black", linewidth=2, marker="|", linestyle="none", markersize=11, label="median")
        ]
        if threshold is not None:
            axes.text(1.01, 1, "failed", transform=axes.transAxes, va="bottom", color=GREY)
            limit, side = format_value(threshold), "below" if better == "higher" else "above"
            handles += [make_line_handle(limit), _dot("a seed", GREY), _dot(f"a seed {side} {limit}", "white")]
        read = read_rows(
            (number, _read_row(*row, never)) for number, row in enumerate(zip(labels, arrays, strict=True))
        )
        return render(canvas, frame, handles, readings=[read_axes(axes, 0, rows=read)])


def _read_row(label: str, values: np.ndarray, never: str) -> str:
    """What is read off a row: its lowest, middle and highest value."""
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return f"{label}: {NO_VALUE}"
    middle = known[(known.size - 1) // 2]
    return f"{label}: median {say(middle, known[0], known[-1], never)} (lowest, highest)"


def _dot(label: str, fill: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker="o", markersize=4, markerfacecolor=fill, markeredgecolor=GREY, label=label
    )

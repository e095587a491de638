"""What a reader's script reads off a drawing: the values under the pointer.

A drawing carries it as JSON in the attribute `data-readings` of its `svg` element, a list with an entry for each pair
of axes. `page.js` reads it; without a script it is not used.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from haepo_jax.reports.figures.style import NO_VALUE
from haepo_jax.text import visible

_MOST_SAMPLES = 160
"""Of a curve: one that has more points is read off between."""


def name_part(artist: Artist, series: int, part: str) -> None:
    """Names a part of a drawing after its curve or row, so that a legend can hide it.

    Args:
      artist: the part.
      series: number of the curve or row, in the order of the legend.
      part: what it is of the curve, with what tells it from its other parts, such as `line-3`.
    """
    artist.set_gid(f"series-{series}-{part}")


def read_axes(axes: Axes, number: int, **more: Any) -> dict[str, Any]:
    """Describes a pair of axes by its limits, and names its inner box.

    Args:
      axes: with their final limits.
      number: theirs in the drawing.
      **more: what is in them, `curves`, `rows` or `cells`.
    """
    axes.patch.set_gid(f"box-{number}")
    ends = {
        side: [*map(_shorten, limits), scale == "log"]
        for side, limits, scale in (
            ("x", axes.get_xlim(), axes.get_xscale()),
            ("y", axes.get_ylim(), axes.get_yscale()),
        )
    }
    return ends | more


def read_curve(
    series: int, label: str, x: np.ndarray, values: Mapping[str, np.ndarray], *, log: bool
) -> dict[str, Any]:
    """Describes a curve by values at even distances along x.

    Args:
      series: its number.
      label: its name.
      x: `[points]`, ascending.
      values: `v`, and `l` and `h` of a band, each `[points]`.
      log: whether the distances are even on a logarithmic axis.
    """
    known = np.isfinite(x)
    scaled = np.log(x[known]) if log else x[known]
    if not scaled.size:
        return {"s": series, "n": visible(label), "x": [0, 0], "v": []}
    places = np.linspace(scaled[0], scaled[-1], min(len(scaled), _MOST_SAMPLES))
    ends = [float(np.exp(end)) if log else float(end) for end in (scaled[0], scaled[-1])]
    samples = {
        name: [_shorten(value) for value in np.interp(places, scaled, np.asarray(part, np.float64)[known])]
        for name, part in values.items()
    }
    return {"s": series, "n": visible(label), "x": [*map(_shorten, ends), log], **samples}


def read_rows(rows: Iterable[tuple[float, str]]) -> list[list[Any]]:
    """Describes rows by their places along y and what is read there."""
    return [[_shorten(place), visible(text)] for place, text in rows]


def read_cells(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Describes cells by what is read in each, from top to bottom."""
    return [[visible(text) for text in row] for row in texts]


def attach(svg: str, readings: Sequence[Mapping[str, Any]]) -> str:
    """Writes readings into the `svg` element of a drawing."""
    text = escape(json.dumps(readings, separators=(",", ":"), allow_nan=False))
    return svg.replace("<svg ", f'<svg data-readings="{text}" ', 1)


def say(value: float, low: float, high: float, never: str) -> str:
    """Writes a value and its interval as a figure's reader has it."""

    def one(number: float) -> str:
        return never if np.isposinf(number) else f"-{never}" if np.isneginf(number) else f"{number:.4g}"

    if np.isnan(value):
        return NO_VALUE
    return one(value) if np.isnan(low) or np.isnan(high) else f"{one(value)} [{one(low)}, {one(high)}]"


def _shorten(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None

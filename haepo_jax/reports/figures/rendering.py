"""Figures as files: title and legend, for which a figure grows, and the bytes of an SVG or a PNG."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.figures.style import NARROW, WIDE, Frame, wrap
from haepo_jax.reports.page import Figure

_TITLE_SIZE = 10.5


def render(canvas: Canvas, frame: Frame, handles: Sequence[Line2D] = ()) -> bytes:
    """Adds title and legend, for which the figure grows, and writes the figure.

    Args:
      canvas: the figure, its axes drawn.
      frame: its title and format.
      handles: the entries of its legend, none for no legend.
    """
    width, height = canvas.get_size_inches()
    if frame.title:
        text = wrap(frame.title, 0.94 * width, _TITLE_SIZE)
        canvas.suptitle(text, x=0.01, ha="left", fontsize=_TITLE_SIZE, fontweight="bold")
        height += 0.19 * (text.count("\n") + 1)
    if handles:
        height += _add_legend(canvas, handles)
    canvas.set_size_inches(width, height)
    file = io.BytesIO()
    if frame.image_format == "svg":
        canvas.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _shorten_svg(file.getvalue())
    canvas.savefig(file, format="png", dpi=200, metadata={"Software": None})
    return file.getvalue()


def responsive(draw: Callable[..., bytes], *args: Any, alt: str, caption: str, **options: Any) -> Figure:
    """Draws a figure for the page, for wide and for narrow screens.

    Args:
      draw: a function that draws a figure.
      *args: its data.
      alt: see `page.Figure`.
      caption: see `page.Figure`.
      **options: its options.
    """
    wide, narrow = (draw(*args, **options, width=width) for width in (WIDE, NARROW))
    return Figure(wide, alt, caption, narrow)


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


def _shorten_svg(svg: bytes) -> bytes:
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

"""Figures as files: title and legend, for which a figure grows, and the bytes of an SVG or a PNG."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from haepo_jax.reports.colours import add_dark_rules
from haepo_jax.reports.figures.readings import attach, name_part
from haepo_jax.reports.figures.style import NARROW, WIDE, Frame, wrap
from haepo_jax.reports.page import Figure

_TITLE_SIZE = 10.5


def render(
    canvas: Canvas,
    frame: Frame,
    handles: Sequence[Line2D] = (),
    *,
    readings: Sequence[Mapping[str, Any]] = (),
    series: int = 0,
) -> bytes:
    """Adds title and legend, for which the figure grows, and writes the figure.

    An SVG is drawn on white, and on a dark ground where its reader prefers that.

    Args:
      canvas: the figure, its axes drawn.
      frame: its title and format.
      handles: the entries of its legend, none for no legend.
      readings: of each pair of axes, see `readings`.
      series: how many of the first entries are of the curves or rows of that number.
    """
    width, height = canvas.get_size_inches()
    if frame.title:
        text = wrap(frame.title, 0.94 * width, _TITLE_SIZE)
        canvas.suptitle(text, x=0.01, ha="left", fontsize=_TITLE_SIZE, fontweight="bold")
        height += 0.19 * (text.count("\n") + 1)
    if handles:
        height += _add_legend(canvas, handles, series)
    canvas.set_size_inches(width, height)
    file = io.BytesIO()
    if frame.image_format == "svg":
        canvas.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _finish_svg(_shorten_svg(file.getvalue()), readings)
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


def _finish_svg(svg: str, readings: Sequence[Mapping[str, Any]]) -> bytes:
    """Adds what turns the drawing dark, and what a script reads off it."""
    svg = add_dark_rules(svg)
    return (attach(svg, readings) if readings else svg).encode()


def _add_legend(canvas: Canvas, handles: Sequence[Line2D], series: int) -> float:
    """Puts a legend below the axes, in as many columns as fit, and returns its height in inches."""
    for columns in range(min(len(handles), 5), 0, -1):
        options: Any = {"handles": list(handles), "ncols": columns, "columnspacing": 1.4, "loc": "outside lower left"}
        # It is measured on a figure of its own, where nothing else is to be laid out.
        trial = Canvas(figsize=(canvas.get_figwidth(), canvas.get_figheight()))
        box = trial.legend(**options).get_window_extent()
        if box.width <= 0.98 * trial.bbox.width or columns == 1:
            legend = canvas.legend(**options)
            for number, parts in enumerate(zip(legend.legend_handles, legend.get_texts(), strict=True)):
                if number < series and parts[0] is not None:
                    name_part(parts[0], number, "key")
                    name_part(parts[1], number, "name")
            return float(box.height / trial.dpi)
    raise AssertionError("One column is always taken.")


def _shorten_svg(svg: bytes) -> str:
    """The same drawing in half the bytes: coordinates to a tenth of a point, and a style once for all its markers."""

    def rounded(match: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), match[0])

    def grouped(match: re.Match[str]) -> str:
        return f'<g{match[1]} style="{match[3]}">' + match[2].replace(f' style="{match[3]}"', "") + "</g>"

    text = re.sub(r">\s+<", "><", svg.decode())
    text = re.sub(r'(?<=\s)(?:d|x|y)="[^"]*"', rounded, text)
    return re.sub(
        r'<g( clip-path="[^"]*")>(<use [^>]* style="([^"]*)"/>(?:<use [^>]* style="\3"/>)*)</g>', grouped, text
    )

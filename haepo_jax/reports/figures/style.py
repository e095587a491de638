"""The one style of all figures: sizes, colours, dashes, markers and fonts."""

import functools
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

from matplotlib.lines import Line2D

from haepo_jax.text import visible

WIDE, NARROW = 7.0, 3.9
"""Widths in inches: of the page, and of a phone."""
NO_VALUE = "no value"
"""The words in place of what cannot be drawn."""

GREY, FAINT, STRIPE = "#555555", "#ececec", "#f5f5f5"
"""Of words and lines beside the data, of places without data, and of every other group of rows."""
HEAT = "viridis"
"""From dark to bright, so that it is read without colours too."""

RC: Any = {
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
"""Matplotlib's settings, for `rc_context`."""

Format = Literal["svg", "png"]


class Style(NamedTuple):
    """The look of a curve or a row."""

    colour: str
    dashes: tuple[float, tuple[float, ...]]
    marker: str


SOLID: tuple[float, tuple[float, ...]] = (0, ())
DASHED = (0, (5.0, 2.0))
_DOTTED = (0, (1.2, 1.6))
_DASHDOT = (0, (6.0, 2.0, 1.2, 2.0))
_SHORT = (0, (2.5, 1.5))
_LONG = (0, (10.0, 2.5))
_DASHES = (SOLID, DASHED, _DOTTED, _DASHDOT, _SHORT, _LONG)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "d", "p", "h")  # arrows to the side are for infinite values

PALETTE = (
    Style("#0072B2", SOLID, "o"),
    Style("#C94F00", SOLID, "s"),
    Style("#009E73", _DASHDOT, "P"),
    Style("#CC79A7", SOLID, "X"),
    Style("#C98500", DASHED, "D"),
    Style("#2D9BDB", DASHED, "^"),
    Style("#332288", _DASHDOT, "v"),
    Style("#882255", _SHORT, "h"),
    Style("#000000", _DOTTED, "*"),
    Style("#777777", _DOTTED, "d"),
    Style("#737000", _LONG, "p"),
)
"""In the order in which they are taken.

Okabe and Ito's colours and dark tones apart from them, which colour-blind readers can tell apart too; each has a
contrast of 3 to 1 or more on white. Dashes and markers differ where the figure is printed in grey.
"""
NEUTRAL = Style("#44546A", SOLID, "o")
"""For rows of one kind, such as the values of one setting."""
_SPARE = (
    NEUTRAL,
    Style("#3A9A89", DASHED, "^"),
    Style("#AA4499", _DASHDOT, "v"),
    Style("#8C510A", _SHORT, "s"),
    Style("#84842C", _LONG, "D"),
    Style("#5588BB", _DOTTED, "P"),
    Style("#661100", SOLID, "X"),
)
"""For labels of no family beside families, so that none looks like one of a family."""


class Options(TypedDict, total=False):
    """Options of every figure: see `Frame`."""

    title: str
    families: Mapping[str, Style]
    width: float
    image_format: Format


class Frame(NamedTuple):
    """The part of a figure besides its data.

    Attributes:
      title: above the figure.
      families: styles of labels by the words that they start with, see `assign_styles`.
      width: in inches.
      image_format: `svg` or `png`.
    """

    title: str = ""
    families: Mapping[str, Style] = MappingProxyType({})
    width: float = WIDE
    image_format: Format = "svg"

    @property
    def is_narrow(self) -> bool:
        """Returns whether it is for a phone."""
        return self.width < 5


def assign_styles(labels: Iterable[str], families: Mapping[str, Style] = MappingProxyType({})) -> dict[str, Style]:
    """Chooses a style for each label; no two are alike while there are any left.

    A label that starts with the words of a family has the family's style; further labels of it ("PPO, no clipping"
    beside "PPO") have its colour with another dash and marker. Other labels take what is left, in order.

    Args:
      labels: of the curves or rows of a figure, in their order.
      families: styles by words, which capital letters and punctuation do not change.

    Returns:
      The style of each label.
    """
    labels = list(dict.fromkeys(labels))
    known = {_words(name): style for name, style in families.items()}
    family = {label: _family(_words(label), known) for label in labels}
    result: dict[str, Style] = {}
    taken: set[Style] = set()
    # Those that are a family's very name come first, so that they have its style wherever their place is.
    for label, name in sorted(family.items(), key=lambda item: (item[1] is None, _words(item[0]) != item[1])):
        fresh = _free_styles(known, taken) if name is None else _with_variants(known[name])
        result[label] = next((style for style in fresh if style not in taken), PALETTE[len(result) % len(PALETTE)])
        taken.add(result[label])
    return {label: result[label] for label in labels}


def _free_styles(families: Mapping[str, Style], taken: set[Style]) -> Iterator[Style]:
    colours = {style.colour for style in (*families.values(), *taken)}
    looks = (*_SPARE, *PALETTE) if families else (*PALETTE, *_SPARE)
    yield from (style for style in looks if style.colour not in colours)
    yield from itertools.chain.from_iterable(map(_with_variants, looks))


@functools.cache
def _with_variants(style: Style) -> list[Style]:
    """The style, then others of its colour, those first of which neither dash nor marker is the same."""
    others = [
        Style(style.colour, _DASHES[(number + turn) % len(_DASHES)], marker)
        for turn in range(len(_DASHES))
        for number, marker in enumerate(_MARKERS)
    ]
    return [style, *sorted(others, key=lambda other: other.dashes == style.dashes or other.marker == style.marker)]


def _words(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()


def _family(words: str, families: Mapping[str, Style]) -> str | None:
    """The family whose words these start with; of several the longest."""
    return max((name for name in families if f"{words} ".startswith(f"{name} ")), key=len, default=None)


def wrap(text: str, inches: float, size: float = 9) -> str:
    """Breaks text into lines that fit, a letter being 0.57 of its size wide."""
    return textwrap.fill(visible(text), max(8, int(inches * 72 / (0.57 * size))), break_long_words=False)


def make_handle(label: str, style: Style, *, line: bool = True) -> Line2D:
    """Makes the entry of a curve or a row in a legend."""
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.dashes if line else SOLID,
        marker=style.marker,
        markeredgewidth=0,
        label=visible(label),
    )


def make_line_handle(label: str) -> Line2D:
    """Makes the entry of a line that is drawn across a figure, in a legend."""
    return Line2D([], [], color=GREY, linewidth=1, linestyle=DASHED, label=visible(label))

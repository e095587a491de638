"""One figure of all claims: how far the evidence of each is from a tie, in units of its own uncertainty."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from haepo_jax.analysis.few_seeds import are_enough
from haepo_jax.analysis.verdicts import VERDICTS, Comparison
from haepo_jax.reports import figures
from haepo_jax.reports.page import ClaimsChapter, Figure, Section

_FAR = 8.0
"""Half-widths from the tie beyond which a comparison is drawn in a lane at the end."""
_NOTHING = (np.nan, np.nan, np.nan)


def draw_claims(sections: Iterable[Section], chapter: ClaimsChapter) -> Figure | None:
    """Draws every claim that has comparisons, in a row; None where none has, or none with an interval.

    A claim that stands for several comparisons is drawn by the one that speaks least for it.

    Args:
      sections: the chapters of a page.
      chapter: how the page words its claims.
    """
    claims = [claim for section in sections for claim in section.claims if claim.comparisons]
    names, forms = [claim.text for claim in claims], chapter.forms
    places = [_find_weakest(claim.comparisons) for claim in claims]
    if all(math.isnan(value) for value, *_ in places):
        return None
    axis: dict[str, Any] = {
        "x_label": "distance from a tie, in half-widths of the 95% interval",
        "reference": 0.0,
        "never": "far",
    }
    if forms is None:
        rows = [(name, *place) for name, place in zip(names, places, strict=True)]
        draw = functools.partial(figures.intervals, rows, style=figures.NEUTRAL, **axis)
    else:
        recommended = np.array([_find_weakest(claim.recommended_comparisons) for claim in claims])
        points = np.stack([np.array(places), recommended], axis=1)
        draw = functools.partial(figures.grouped_intervals, names, forms, *np.moveaxis(points, -1, 0), **axis)
    counts = Counter(claim.verdict for claim in claims)
    return figures.responsive(
        draw,
        alt=f"Of {len(claims)} claims with a comparison, "
        + ", ".join(f"{counts[word]} {chapter.words.get(word, word)}" for word in VERDICTS if counts[word])
        + ("." if forms is None else f", on {forms[0]}."),
        caption="Every claim at once: how far the comparison that speaks least for it is from a tie, right of the "
        "line in the direction of the claim, in half-widths of its own 95% interval, so that claims in unlike units "
        "share an axis. An interval that crosses the line shows no difference. The lane at an end holds what is more "
        f"than {_FAR:g} half-widths away.",
    )


def _find_weakest(comparisons: Sequence[Comparison]) -> tuple[float, float, float]:
    places = [_place(made) for made in comparisons]
    known = [place for place in places if not math.isnan(place[0])]
    return min(known, key=lambda place: place[1]) if known else _NOTHING


def _place(made: Comparison) -> tuple[float, float, float]:
    """Value and ends of a comparison as distances from its tie, positive in the claim's direction."""
    ends = np.array([float(end) for end in made.estimate])
    if made.nothing or np.isnan(ends).any() or (made.seeds is not None and not are_enough(made.seeds)):
        return _NOTHING
    with np.errstate(divide="ignore"):
        off = np.log(ends) - math.log(made.tie) if made.tie > 0 else ends - made.tie
    off = off if made.larger else -off
    value, low, high = off[0], min(off[1:]), max(off[1:])
    with np.errstate(invalid="ignore"):  # both ends may be infinite, as where one of the two never got there
        half = (high - low) / 2
    if not np.isfinite(half) or half == 0:
        scaled = np.where(off == 0, 0.0, np.copysign(np.inf, off))
        value, low, high = scaled[0], min(scaled[1:]), max(scaled[1:])
    else:
        value, low, high = value / half, low / half, high / half
    value, low, high = (math.copysign(math.inf, end) if abs(end) > _FAR else end for end in (value, low, high))
    return value, low, high

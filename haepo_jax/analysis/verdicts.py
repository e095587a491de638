"""The word for a comparison, and the word for a claim that several comparisons decide; both are computed here."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, are_enough
from haepo_jax.analysis.statistics import Estimate, difference_interval, interquartile_mean, variance_ratio

REPRODUCED, CONTRADICTED, NO_DIFFERENCE, UNDECIDED = (
    "reproduced",
    "contradicted",
    "no difference shown",
    "undecided",
)
VERDICTS = (REPRODUCED, CONTRADICTED, NO_DIFFERENCE, UNDECIDED)
RULE = (
    "A comparison is reproduced if its 95% interval excludes a tie in the claim's direction, contradicted if it "
    "excludes it in the other direction, and shows no difference if the interval holds the tie. It is undecided with "
    f"fewer than {FEWEST_SEEDS} seeds, where there is nothing to compare because neither gets there, and where an "
    "interval that holds the tie has an infinite end. A claim stands for all of its comparisons: it is reproduced if "
    "each is, contradicted if one is, else undecided if one is, else no difference is shown. Where some comparisons "
    "reproduce a claim and others contradict it, each has a line of its own. The verdict is on the method in the "
    "paper's form, as far as it is known; that on the recommended form stands beside it. A quick run decides nothing."
)
"""For readers of a page."""


class Comparison(NamedTuple):
    """The evidence that decides a claim.

    Attributes:
      estimate: a difference or ratio with its 95% interval; scalars, in the unit of what is compared.
      seeds: the runs of a task behind it, of the side that has fewer; None for what is exact, with nothing drawn.
      larger: whether the claim asks for more than a tie, and not for less.
      tie: the value that means no difference: 0 of a difference, 1 of a ratio.
      nothing: why there is nothing to compare, in words; empty where there is something.
    """

    estimate: Estimate
    seeds: int | None
    larger: bool = True
    tie: float = 0.0
    nothing: str = ""


def decide(comparison: Comparison) -> str:
    """Gives the word for a comparison.

    An infinite end does not keep an interval from excluding a tie: where one side always gets there and the other
    never does, the difference is infinite and decided.

    Args:
      comparison: what was measured, and what the claim asks for.

    Returns:
      One of `VERDICTS`.
    """
    ends = np.array([float(end) for end in comparison.estimate])
    few = comparison.seeds is not None and not are_enough(comparison.seeds)
    if comparison.nothing or few or np.isnan(ends).any():
        return UNDECIDED
    _, low, high = ends
    if low > comparison.tie or high < comparison.tie:
        return REPRODUCED if (low > comparison.tie) == comparison.larger else CONTRADICTED
    return NO_DIFFERENCE if np.isfinite(ends).all() else UNDECIDED


def decide_all(words: Iterable[str]) -> str:
    """Gives the word for a claim that stands for all comparisons with these words: one that fails is enough."""
    found = set(words)
    for word in (CONTRADICTED, UNDECIDED, NO_DIFFERENCE, REPRODUCED):
        if word in found:
            return word
    return UNDECIDED


def disagree(words: Iterable[str]) -> bool:
    """Returns whether some comparisons reproduce a claim and others contradict it, so that no word is fair to all."""
    return {REPRODUCED, CONTRADICTED} <= set(words)


def compare(
    x: np.ndarray,
    y: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    *,
    larger: bool = True,
    never: str = "neither gets there",
) -> Comparison:
    """Compares a statistic of X with that of Y by their difference.

    Args:
      x: `[tasks, runs_x]`.
      y: `[tasks, runs_y]`.
      statistic: maps `[tasks, runs, ...]` to `[...]`.
      larger: whether the claim asks for more of X than of Y.
      never: the words for both being infinite alike, where there is nothing to compare.

    Returns:
      X minus Y.
    """
    both = np.array([statistic(x), statistic(y)])
    nothing = never if np.isinf(both).all() and both[0] == both[1] else ""
    return Comparison(difference_interval(x, y, statistic), min(x.shape[1], y.shape[1]), larger, 0.0, nothing)


def compare_variances(x: np.ndarray, y: np.ndarray, *, larger: bool = False) -> Comparison:
    """Compares the variance over runs of X `[tasks, runs_x]` with that of Y, by the ratio of the first to the second.

    Args:
      x: finite, two runs a task or more.
      y: likewise.
      larger: whether the claim asks for more variance of X than of Y.
    """
    return Comparison(variance_ratio(x, y), min(x.shape[1], y.shape[1]), larger, 1.0)

"""How every point stands beside the one with the highest score: what ties with it, and what is behind."""

import numpy as np

from haepo_jax.analysis.few_seeds import are_enough
from haepo_jax.analysis.statistics import Estimate, difference_interval
from haepo_jax.analysis.verdicts import REPRODUCED, UNDECIDED, Comparison, decide
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.ranking import Ranking, Scores

BEST, HIGHEST, TIES, BEHIND = "the best", "the highest", "ties with it", "behind it"
"""The name of a point in a text. Without enough seeds the one with the highest score is not called the best."""


def compare_with_highest(sweep: Sweep, scores: Scores, ranking: Ranking) -> dict[int, str]:
    """Compares every point that is ranked with the one that has the highest score.

    A point ties where the 95% interval of the difference of interquartile means holds 0. The seeds of two points are
    drawn independently of each other: what they have in common is little once both have learned.

    Returns:
      By point, in the order of the ranking, `BEST` or `HIGHEST` of the first, and `TIES`, `BEHIND` or `UNDECIDED` of
      the others. The last is that of points with too few seeds, their own or those of the first.
    """
    first, *others = ranking.order.tolist()
    if not are_enough(int(ranking.seeds[first])):
        return {first: HIGHEST, **dict.fromkeys(others, UNDECIDED)}
    words = {first: BEST, **dict.fromkeys(others, UNDECIDED)}
    own = _collect_finals(sweep, scores, [first])
    for seeds in np.unique(ranking.seeds[others]):
        alike = [point for point in others if ranking.seeds[point] == seeds]
        if are_enough(int(seeds)):
            theirs = _collect_finals(sweep, scores, alike)
            # Of a great many points fewer resamples do.
            resamples = int(np.clip(10**8 // theirs.size, 200, 1000))
            ours = np.broadcast_to(own, (*own.shape[:2], len(alike)))
            differences = difference_interval(ours, theirs, resamples=resamples)
            for point, *ends in zip(alike, *differences, strict=True):
                word = decide(Comparison(Estimate(*ends), int(seeds)))
                words[point] = BEHIND if word == REPRODUCED else TIES
    return words


def _collect_finals(sweep: Sweep, scores: Scores, points: list[int]) -> np.ndarray:
    """`[1, seeds, points]` the final returns of points that have as many seeds."""
    place = np.full(len(sweep.points), -1)
    place[points] = np.arange(len(points))
    members = np.flatnonzero(scores.compared & (place[sweep.point] >= 0))
    members = members[np.argsort(place[sweep.point[members]], kind="stable")]
    return scores.finals[members].reshape(len(points), -1).T[None]

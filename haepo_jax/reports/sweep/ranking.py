"""The scores of members and points: that of a member is its final return, that of a point their interquartile mean.

While a sweep runs, its members have come to different updates. They are compared after the same number of them, the
one at which the most updates of all members count. A point of which a member runs and has not come so far is left
out, so that a wave of members that has only begun does not hold back those that are done. Members that have stopped
(they diverged, or used up their environment steps) have no more rows and hold back no one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.statistics import interquartile_mean, seed_mean
from haepo_jax.errors import ConfigError
from haepo_jax.reports.sweep.bins import Setting
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.runs.summary import FINAL_UPDATES


class Scores(NamedTuple):
    """The score by which members are compared.

    Attributes:
      updates: the number of updates after which they are compared.
      compared: `[members]` whether it and all members of its point that have begun have come so far, or have stopped.
      finals: `[members]` final returns, mean over the last 10 of these updates; that of one that had diverged is
        `worst`, that of one that is not compared NaN.
      diverged: `[members]` whether it had diverged by then.
      worst: the worst final return of any member that is compared, those that diverged included.
    """

    updates: int
    compared: np.ndarray
    finals: np.ndarray
    diverged: np.ndarray
    worst: float


class Ranking(NamedTuple):
    """Of each point, `[points]`, NaN where no member is compared.

    Attributes:
      seeds: members that are compared.
      score: interquartile mean of their final returns.
      median: their median.
      worst: the worst of them.
      diverged: how many of them diverged.
      order: the points that are compared, the best first.
    """

    seeds: np.ndarray
    score: np.ndarray
    median: np.ndarray
    worst: np.ndarray
    diverged: np.ndarray
    order: np.ndarray


def score_members(sweep: Sweep) -> Scores:
    """Computes the final returns of all members, after the same number of updates.

    Raises:
      ConfigError: no member has a finite return.
    """
    updates = _find_common_updates(sweep)
    compared = _find_compared(sweep, updates)
    at = np.minimum(sweep.rows, updates)[:, None] - 1 - np.arange(FINAL_UPDATES)
    window = np.take_along_axis(sweep.returns, np.maximum(at, 0), axis=1).astype(np.float64)
    usable = (at >= 0) & np.isfinite(window) & compared[:, None]
    means = seed_mean(np.where(usable, window, np.nan), axis=1)
    if np.isnan(means).all():
        raise ConfigError("No member of the run has a finite return yet, so there is nothing to compare.")
    worst = float(np.nanmin(means))
    diverged = compared & sweep.diverged & (sweep.rows <= updates)
    finals = np.where(diverged | np.isnan(means), worst, means)
    return Scores(updates, compared, np.where(compared, finals, np.nan), diverged, worst)


def rank_points(sweep: Sweep, scores: Scores) -> Ranking:
    """Ranks the points by their scores; those that tie by the mean of their final returns."""
    finals, point = scores.finals[scores.compared], sweep.point[scores.compared]

    def each(statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return aggregate_by_cell(statistic, finals, point, len(sweep.points))

    score, mean = each(interquartile_mean), each(lambda runs: runs.mean(axis=(0, 1)))
    order = np.lexsort((-mean, -score))  # NaN is sorted last
    return Ranking(
        seeds=np.bincount(point, minlength=len(sweep.points)),
        score=score,
        median=each(lambda runs: np.median(runs, axis=(0, 1))),
        worst=each(lambda runs: runs.min(axis=(0, 1))),
        diverged=np.bincount(sweep.point[scores.diverged], minlength=len(sweep.points)),
        order=order[~np.isnan(score[order])],
    )


def aggregate_by_cell(
    statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray, cell: np.ndarray, count: int
) -> np.ndarray:
    """Computes a statistic of the values in each cell.

    Args:
      statistic: maps `[1, runs, cells]` to `[cells]`, such as `interquartile_mean`.
      values: `[runs]`.
      cell: `[runs]` the cell of each.
      count: how many cells there are.

    Returns:
      `[count]`, NaN of an empty cell.

    Example:
      >>> aggregate_by_cell(interquartile_mean, np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
      array([ 2., nan,  5.])
    """
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=count)
    starts = np.cumsum(sizes) - sizes
    result = np.full(count, np.nan)
    for size in np.unique(sizes[sizes > 0]):  # all cells of one size at once
        chosen = np.flatnonzero(sizes == size)
        result[chosen] = statistic(values[order[starts[chosen] + np.arange(size)[:, None]]][None])
    return result


def pool_members(sweep: Sweep, scores: Scores, *settings: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Pools all members that share their levels of some settings.

    Args:
      sweep: the sweep.
      scores: of its members.
      *settings: which.

    Returns:
      The interquartile mean of their final returns and the share of them that diverged, each
      `[levels of the first, of the second, ...]`; NaN where none is compared.
    """
    shape = tuple(len(setting.labels) for setting in settings)
    cell = find_cells(sweep, *settings)[scores.compared]
    values = (scores.finals[scores.compared], scores.diverged[scores.compared].astype(np.float64))
    statistics = (interquartile_mean, lambda runs: runs.mean(axis=(0, 1)))
    score, share = (
        aggregate_by_cell(statistic, value, cell, math.prod(shape)).reshape(shape)
        for statistic, value in zip(statistics, values, strict=True)
    )
    return score, share


def find_cells(sweep: Sweep, *settings: Setting) -> np.ndarray:
    """Returns, `[members]`, the combination of levels of some settings, the last setting counting fastest."""
    cell = np.zeros(len(sweep.point), int)
    for setting in settings:
        cell = cell * len(setting.labels) + setting.level[sweep.point]
    return cell


def _find_common_updates(sweep: Sweep) -> int:
    """The number of updates at which the most rows are compared; of two alike the smaller, for more members."""
    candidates = np.unique(sweep.rows[sweep.begun & ~sweep.done])
    if (sweep.begun & sweep.done).any():
        candidates = np.append(candidates, sweep.returns.shape[1])
    counts = [np.minimum(sweep.rows, updates)[_find_compared(sweep, updates)].sum() for updates in candidates]
    return int(candidates[int(np.argmax(counts))])


def _find_compared(sweep: Sweep, updates: int) -> np.ndarray:
    """`[members]` whether it is compared after so many updates.

    A member that has stopped waits for the others of its point: of those that diverge early nothing would be seen but
    that they diverged.
    """
    late = np.zeros(len(sweep.points), bool)
    late[sweep.point[sweep.begun & ~sweep.done & (sweep.rows < updates)]] = True
    return sweep.begun & ~late[sweep.point]

"""The learning curves of members: their returns and other metrics, at the same places along one axis."""

from typing import NamedTuple, Unpack

import numpy as np

from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, Options, interquartile_mean_band
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.ranking import Scores

CURVE_POINTS = 100


class Places(NamedTuple):
    """Where curves are read off, and the rows of the members there."""

    x: np.ndarray
    """`[places]` updates, or environment steps up to what all members that did not diverge have taken."""
    row: np.ndarray
    """`[members, places]` the update that is the newest of the member there."""
    gone: np.ndarray
    """`[members, places]` whether the member had diverged by then."""


def find_places(sweep: Sweep, scores: Scores, members: np.ndarray, *, by_steps: bool) -> Places:
    """Finds places along the axis of curves, and the rows of members there.

    Args:
      sweep: the records.
      scores: of all its members.
      members: indices of those whose curves are wanted, all of which are compared.
      by_steps: whether the axis is of environment steps; of updates otherwise.
    """
    ended = np.minimum(sweep.rows[members], scores.updates)
    dead = scores.diverged[members]
    if by_steps:
        last = sweep.env_steps[members, ended - 1]
        end = int(last.max() if dead.all() else last[~dead].min())
        places = np.linspace(0, end, CURVE_POINTS + 1)[1:]
        steps = (sweep.env_steps[member, :count] for member, count in zip(members, ended, strict=True))
        row = np.stack([np.searchsorted(own, places, side="right") - 1 for own in steps])
        gone = dead[:, None] & (places > last[:, None])
    else:
        longest = scores.updates if dead.all() else int(ended[~dead].max())
        places = np.unique(np.linspace(1, longest, CURVE_POINTS).astype(int))
        row = np.minimum(places - 1, ended[:, None] - 1)
        gone = dead[:, None] & (places > ended[:, None])
    return Places(places, np.maximum(row, 0), gone)


def collect_curves(
    sweep: Sweep, scores: Scores, point: int, *, by_steps: bool, worst: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Collects the returns of a point's members.

    A member that has diverged has the worst final return from there on, one that has stopped its last return. An
    update in which no episode has ended has the return of the one before, and NaN where none has ended yet.

    Args:
      sweep: the records.
      scores: of its members.
      point: index of a point that is compared.
      by_steps: whether they are against environment steps; against updates otherwise.
      worst: the return of those that have diverged, by default the worst final one of the run.

    Returns:
      `[places]` along the axis, and the returns `[members, places]`.
    """
    members = np.flatnonzero((sweep.point == point) & scores.compared)
    places = find_places(sweep, scores, members, by_steps=by_steps)
    lost = scores.worst if worst is None else worst
    return places.x, np.where(places.gone, lost, collect_metric(places, sweep.returns[members]))


def collect_metric(places: Places, values: np.ndarray) -> np.ndarray:
    """Reads a metric off at places, `[members, places]`; NaN once a member has diverged.

    Args:
      places: of some members.
      values: `[members, updates]` of them. A row without a value has that of the row before.
    """
    known = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), axis=1)
    filled = np.take_along_axis(np.where(known, values, np.nan), newest, axis=1)
    return np.where(places.gone, np.nan, np.take_along_axis(filled, places.row, axis=1).astype(np.float64))


def estimate_known(values: np.ndarray, **options: Unpack[Options]) -> Estimate:
    """Computes the interquartile mean over the runs that have a value, with its band where these are enough.

    Args:
      values: `[runs, places]`, NaN where a run has none.
      **options: of the bootstrap.

    Returns:
      `[places]` each, NaN where no run has a value.
    """
    result = np.full((3, values.shape[1]), np.nan)
    patterns, which = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        if pattern.any():
            columns = which.ravel() == number
            inside = values[np.ix_(pattern, columns)]
            result[:, columns] = drop_unsupported(interquartile_mean_band(inside, **options), len(inside))
    return Estimate(*result)

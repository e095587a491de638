"""The learning curves of a point."""

import numpy as np

from haepo_jax.reports.sweep.folder import Sweep, counts_steps
from haepo_jax.reports.sweep.ranking import Scores

CURVE_POINTS = 100


def collect_curves(sweep: Sweep, scores: Scores, point: int) -> tuple[np.ndarray, np.ndarray]:
    """Collects the returns of a point's members, against environment steps where these are limited, else updates.

    A member that has diverged has the worst final return from there on, one that has stopped its last return.

    Args:
      sweep: the sweep.
      scores: of its members.
      point: index of a point that is compared.

    Returns:
      `[places]` updates, or environment steps up to what all members that did not diverge have taken; and the returns
      `[members, places]`.
    """
    members = np.flatnonzero((sweep.point == point) & scores.compared)
    ended = np.minimum(sweep.rows[members], scores.updates)
    dead = scores.diverged[members]
    if counts_steps(sweep):
        last = sweep.env_steps[members, ended - 1]
        end = int(last.max() if dead.all() else last[~dead].min())
        places = np.linspace(0, end, CURVE_POINTS + 1)[1:]
        steps = (sweep.env_steps[member, :count] for member, count in zip(members, ended, strict=True))
        at = np.stack([np.searchsorted(own, places, side="right") - 1 for own in steps])
        gone = dead[:, None] & (places > last[:, None])
    else:
        longest = scores.updates if dead.all() else int(ended[~dead].max())
        places = np.unique(np.linspace(1, longest, CURVE_POINTS).astype(int))
        at = np.minimum(places - 1, ended[:, None] - 1)
        gone = dead[:, None] & (places > ended[:, None])
    values = np.take_along_axis(sweep.returns[members], np.maximum(at, 0), axis=1).astype(np.float64)
    return places, np.where(gone | ~np.isfinite(values), scores.worst, values)

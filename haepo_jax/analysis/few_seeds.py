"""How many seeds an interval needs: with fewer, a value is shown without one, and nothing is decided."""

import numpy as np

from haepo_jax.analysis.statistics import Estimate, interquartile_mean_band

FEWEST_SEEDS = 5
"""A bootstrap of fewer draws the same few values again and again, and its interval is far too narrow."""


def are_enough(seeds: int) -> bool:
    """Returns whether so many seeds make an interval."""
    return seeds >= FEWEST_SEEDS


def drop_unsupported(estimate: Estimate, seeds: int) -> Estimate:
    """Takes away the interval of an estimate that too few seeds stand behind.

    Args:
      estimate: a value and its interval, each `[...]`.
      seeds: the runs of a task that were drawn again.

    Returns:
      The estimate, its ends NaN where the seeds are too few. Words and figures leave out an end that is NaN.
    """
    if are_enough(seeds):
        return estimate
    gone = np.full(np.shape(estimate.value), np.nan)
    return Estimate(estimate.value, gone, gone)


def estimate_interquartile_mean(values: np.ndarray) -> Estimate:
    """Computes the interquartile mean over the runs `[runs, ...]` of one task, with an interval if they are enough."""
    return drop_unsupported(interquartile_mean_band(values), len(values))

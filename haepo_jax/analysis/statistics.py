"""Statistics over seeds."""

import warnings

import numpy as np
import scipy.stats

_RESAMPLES = 2000


def seed_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over the seeds (`axis`) that are not NaN; NaN where all are."""
    valid = ~np.isnan(values)
    total, count = np.where(valid, values, 0).sum(axis=axis), valid.sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def bootstrap_band(values: np.ndarray, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over seeds, for each update on its own.

    Args:
      values: `[seeds, updates]`; a NaN leaves its seed out of that update.
      confidence: the share of resamples within the interval.

    Returns:
      `(low, high)`, each `[updates]`; both are the values themselves when there is one seed.
    """
    if len(values) < 2:
        return values[0], values[0]
    with warnings.catch_warnings():
        # An update without seeds, or with so few that a resample has none, has no band: NaN says so.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        interval = scipy.stats.bootstrap(
            (values,),
            seed_mean,
            axis=0,
            confidence_level=confidence,
            n_resamples=_RESAMPLES,
            batch=100,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return interval.low, interval.high

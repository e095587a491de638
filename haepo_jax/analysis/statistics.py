"""Statistics over seeds."""

import numpy as np
import scipy.stats

_RESAMPLES = 2000


def bootstrap_band(values: np.ndarray, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over seeds, for each update on its own.

    Args:
      values: `[seeds, updates]`; a NaN leaves its seed out of that update.
      confidence: the share of resamples within the interval.

    Returns:
      `(low, high)`, each `[updates]`; both equal the mean where fewer than two seeds are left.
    """
    if len(values) < 2:
        return values[0], values[0]
    result = scipy.stats.bootstrap(
        (values,),
        lambda sample, axis: np.nanmean(sample, axis=axis),
        axis=0,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return result.confidence_interval.low, result.confidence_interval.high

"""What becomes of batches whose returns `sum` normalisation cannot rank."""

import numpy as np

from experiments.studies.run_data import RunData


def describe_dropped_returns(label: str, run: RunData) -> str:
    """Says in a sentence in how many of a run's batches the returns were dropped, early and overall.

    Args:
      label: the method, and where several tasks are played the task.
      run: of HAEPO with `sum` normalisation.
    """
    dropped = run.metric("returns_sum_not_positive")
    early = dropped[:, : max(1, dropped.shape[1] // 10)]
    if not np.nansum(dropped):
        return f"{label}: the returns of every batch sum to a positive number."
    return (
        f"{label}: the returns of {np.nanmean(dropped):.1%} of the batches, {np.nanmean(early):.1%} in the first "
        "tenth of the updates, do not sum to a positive number. They are dropped, and the regularisers alone move "
        "the policy."
    )

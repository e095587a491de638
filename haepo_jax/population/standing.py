"""How a member stands in its population, for population-based training."""

from typing import Any

import flax.struct
import jax
import numpy as np


@flax.struct.dataclass
class Standing:
    """What a member carries from one exchange to the next."""

    member: jax.Array
    """int32, its index in the run."""
    population: jax.Array
    """int32; -1 for padding."""
    total: jax.Array
    """float32, the sum of the metric over the updates since the last exchange in which it was finite."""
    count: jax.Array
    """int32, how many of these updates there were."""
    score: jax.Array
    """float32, the score at the last exchange; NaN before the first."""


def no_standing(members: np.ndarray, populations: np.ndarray) -> Standing:
    """Makes the standing of members before their first update, arrays `[members]`."""
    rows = members.shape
    fields: tuple[Any, ...] = (
        members.astype(np.int32),
        populations.astype(np.int32),
        np.zeros(rows, np.float32),
        np.zeros(rows, np.int32),
        np.full(rows, np.nan, np.float32),
    )
    return Standing(*fields)

"""Means over held-out examples, which the devices may not share evenly."""

from collections.abc import Callable

import jax
import numpy as np

from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.training.scoring import Sequences


def average_over_batches(
    context: StageContext, function: Callable[[Sequences], jax.Array], examples: Sequences
) -> float:
    """Computes the mean of a function of whole batches of held-out examples.

    Args:
      context: gives the size of the batches, and the devices.
      function: `batch -> mean over its rows`, to which rows without any valid token count nothing.
      examples: N rows. The few that fill no batch are left out; fewer than one batch are filled up with such rows.
    """
    count, devices = len(examples.tokens), context.mesh.size
    size = min(context.held_out_rows, -(-count // devices) * devices)
    if count < size:
        examples = jax.tree.map(
            lambda array: np.pad(array, [(0, size - count)] + [(0, 0)] * (array.ndim - 1)), examples
        )
    starts = range(0, len(examples.tokens) - size + 1, size)
    values = [function(context.place(Sequences(*(array[at : at + size] for array in examples)))) for at in starts]
    return float(np.mean([np.asarray(value) for value in values]))

"""An endless stream of shuffled batches whose place is a few numbers, so that a resumed run sees the same batches."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from haepo_jax.errors import ConfigError


class Cursor(NamedTuple):
    """A place in the stream over a data set; every field is `[]` int32, as checkpoints hold them."""

    seed: np.ndarray
    """Decides the order, with the epoch."""
    num_examples: np.ndarray
    """Size of the data set, N."""
    epoch: np.ndarray
    """Whole passes over the data behind it."""
    position: np.ndarray
    """Examples of this epoch behind it, less than N."""


def start(arrays: Any, *, seed: int) -> Cursor:
    """Returns the place before the first batch.

    Args:
      arrays: the data set, a pytree of arrays `[N, ...]`.
      seed: 0 or more, of int32.

    Raises:
      ConfigError: no arrays, arrays of different N, or N = 0.
    """
    return _cursor(seed, _num_examples(arrays), 0, 0)


def next_batch[Arrays](arrays: Arrays, cursor: Cursor, size: int) -> tuple[Arrays, Cursor]:
    """Takes the next examples of the stream.

    Each epoch holds every example once, in an order of its own that depends on nothing but seed, epoch and N. A batch
    at the end of an epoch continues in the next one, so that all batches have the same size and none is left out;
    one that is larger than the data set covers several epochs.

    Args:
      arrays: the data set, a pytree of NumPy arrays `[N, ...]`.
      cursor: the place, from `start` or from a former call.
      size: examples of the batch, at least 1.

    Returns:
      `(batch, cursor)`: the pytree of arrays `[size, ...]`, and the place behind it.

    Raises:
      ConfigError: the data set is not as large as that of the cursor, `size` is not positive, or as `start`.
    """
    count = _num_examples(arrays)
    seed, num_examples, epoch, position = (int(field) for field in cursor)
    if num_examples != count:
        raise ConfigError(
            f"The run was started on {num_examples} examples, and the data set now has {count}; "
            "continue with the same data."
        )
    if size < 1:
        raise ConfigError(f"A batch has at least 1 example, got {size}.")
    pieces, missing = [], size
    while missing:
        piece = _permutation(seed, epoch, count)[position : position + missing]
        pieces.append(piece)
        missing -= len(piece)
        position += len(piece)
        if position == count:
            epoch, position = epoch + 1, 0
    index = np.concatenate(pieces)
    return jax.tree.map(lambda array: array[index], arrays), _cursor(seed, count, epoch, position)


def _cursor(*fields: int) -> Cursor:
    return Cursor(*(np.asarray(field, np.int32) for field in fields))


def _num_examples(arrays: Any) -> int:
    sizes = {len(array) for array in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or sizes == {0}:
        found = " and ".join(str(size) for size in sorted(sizes)) or "no arrays"
        raise ConfigError(f"A data set is arrays with as many rows each, at least 1; got {found}.")
    return sizes.pop()


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)

"""Checksums of checkpoints, one for each member: the storage layer restores a flipped bit without complaint."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def compute(arrays: Mapping[str, Any], start: np.uint32) -> jax.Array:
    """Computes `[members]` uint32, a sum over all of a member's words, each times an odd number of its own.

    A word that changes changes the sum, as an odd factor loses nothing modulo 2^32. Where the sum starts, which
    follows from the record, makes that of zeroed files wrong, and that of arrays under another record.
    """
    return _sum_words([_to_words(leaf) for _, leaf in sorted(arrays.items())], start)


def find_wrong_rows(sums: jax.Array, stored: Any, num_stored: int) -> list[int]:
    """Lists the rows of this process whose checksums differ."""
    if isinstance(stored, np.ndarray):
        return np.flatnonzero(np.asarray(sums) != stored).tolist()
    pairs = zip(sums.addressable_shards, stored.addressable_shards, strict=True)
    rows = [
        np.flatnonzero(np.asarray(computed.data) != np.asarray(kept.data)) + (computed.index[0].start or 0)
        for computed, kept in pairs
    ]
    return [row for row in np.concatenate(rows).tolist() if row < num_stored]


def start_of_record(digest: str) -> np.uint32:
    """Returns what the checksums of a checkpoint with this record begin with."""
    return np.uint32(int(digest[:8], 16))


def start_before_records(update: int) -> np.uint32:
    """Returns what they began with before there were records."""
    return np.uint32((update * 2 + 1) * 0x9E3779B9 % 2**32)


def _to_words(leaf: Any) -> Any:
    """Returns NumPy arrays as unsigned words: in JAX, 64 bits may be cut to 32."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    rows = np.ascontiguousarray(leaf).reshape(leaf.shape[0], -1)
    return rows.view(f"uint{8 * min(leaf.dtype.itemsize, 4)}")


@jax.jit
def _sum_words(leaves: list[jax.Array], start: jax.Array) -> jax.Array:
    total = jnp.full(leaves[0].shape[0], start, jnp.uint32)
    for number, leaf in enumerate(leaves):
        rows = leaf.reshape(leaf.shape[0], -1)
        if rows.dtype == bool:
            rows = rows.astype(jnp.uint8)
        words = jax.lax.bitcast_convert_type(rows, f"uint{8 * rows.dtype.itemsize}").astype(jnp.uint32)
        position = jnp.arange(words.shape[1], dtype=jnp.uint32) + jnp.uint32(number)
        total += (words * (position * jnp.uint32(0x0B4E4D56) + 1)).sum(axis=1, dtype=jnp.uint32)
    return total

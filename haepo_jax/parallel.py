"""Decisions for all members that are vmapped together, from within the code of one.

A loop whose length differs from member to member is slow under `vmap`: every turn then selects, for each member and
every array, between old and new. With one length for all, that of the member that needs most, nothing is selected.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


@custom_vmap
def largest(value: jax.Array) -> jax.Array:
    """The largest of the members' values, one for all; outside of `vmap` the value itself.

    Example:
      >>> jax.vmap(lambda x: x + largest(x))(jnp.array([1, 2, 5]))
      Array([ 6,  7, 10], dtype=int32)
    """
    return value


@largest.def_vmap
def _largest_of_all(axis_size: int, in_batched: list[bool], value: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return largest(jnp.max(value, axis=0)) if in_batched[0] else value, False

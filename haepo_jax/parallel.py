"""Names of the axes of a mesh of devices, and a maximum over all members that are vmapped together.

A loop whose length differs from member to member is slow under `vmap`: every turn then selects, for each member and
every array, between old and new. With one length for all, that of the member that needs most, nothing is selected.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

MEMBERS, TRAJECTORIES = "members", "trajectories"
"""Along the first axis lie members; along the second one the shares of the trajectories of each."""


@custom_vmap
def max_over_members(value: jax.Array) -> jax.Array:
    """Computes the largest of the members' values, one for all; outside of `vmap` the value itself.

    Args:
      value: a scalar of each member.

    Example:
      >>> jax.vmap(lambda x: x + max_over_members(x))(jnp.array([1, 2, 5]))
      Array([ 6,  7, 10], dtype=int32)
    """
    return value


@max_over_members.def_vmap
def _max_of_batch(axis_size: int, in_batched: list[bool], value: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return max_over_members(jnp.max(value, axis=0)) if in_batched[0] else value, False

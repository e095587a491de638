"""A way around a crash of the compiler: constants without elements in a program over several devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def with_empty_constants_inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """Builds the same function, with the constants that have no elements made inside of it.

    `jax.shard_map` hands the array constants of its function over as arguments. XLA's Shardy partitioner (jaxlib
    0.11) ends the process with a segmentation fault when one of them has no elements, and `x.at[:].set(y)` writes
    one: its indices. Environments and networks may do so wherever they like.

    Args:
      function: takes and returns trees of arrays.

    Returns:
      The function, to be given to `jax.shard_map`.
    """

    @functools.wraps(function)
    def same(*args: Any) -> Any:
        program, results = jax.make_jaxpr(function, return_shape=True)(*args)
        constants = [value if value.size else jnp.zeros(value.shape, value.dtype) for value in program.consts]
        leaves = jax.core.eval_jaxpr(program.jaxpr, constants, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(results), leaves)

    return same

"""A way around a crash of the compiler: arrays without elements in a program over several devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError


def with_empty_constants_inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """Builds the same function, with the constants that have no elements made inside of it.

    `jax.shard_map` hands the array constants of its function over as arguments. XLA's Shardy partitioner (jaxlib
    0.11) ends the process with a segmentation fault when one of them has no elements, and `x.at[:].set(y)` writes
    one: its indices. Environments and networks may do so wherever they like. An argument or a result without elements
    crashes the same way, and nothing can be done about it here.

    Args:
      function: takes and returns trees of arrays.

    Returns:
      The function, to be given to `jax.shard_map`. It raises a ConfigError while it is traced if an argument or a
      result has no elements.
    """

    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        program, results = jax.make_jaxpr(function, return_shape=True)(*args)
        for path, leaf in jax.tree_util.tree_leaves_with_path((args, results)):
            if 0 in leaf.shape:
                raise ConfigError(
                    f"{jax.tree_util.keystr(path)} of a program over devices has the shape {leaf.shape}: an array "
                    "without elements cannot be spread; leave it out of the environment's state, observations and "
                    "actions."
                )
        constants = [value if value.size else jnp.zeros(value.shape, value.dtype) for value in program.consts]
        leaves = jax.core.eval_jaxpr(program.jaxpr, constants, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(results), leaves)

    return wrapped

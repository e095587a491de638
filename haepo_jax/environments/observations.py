"""Observations of any structure as the one float32 array of the interface, with an action mask at its end."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Observer(NamedTuple):
    """Converts observations of one structure."""

    observation_shape: tuple[int, ...]
    """Of the array: as it is where there is one array and no mask, else of a vector."""
    mask_size: int
    """Entries of the action mask at the end of the vector; 0 where there is none."""
    masked_shape: tuple[int, ...] | None
    """Of the features, where there is a mask: of the one array, or of the vector of several."""

    def __call__(self, observation: Any, mask: Any = None) -> jax.Array:
        """Converts one observation, and its action mask where there is one.

        Args:
          observation: numbers and arrays in any nesting of mappings, tuples and dataclasses.
          mask: boolean, of any shape, in the same.

        Returns:
          float32 `[*observation_shape]`: the one array as it is; several flattened, one after the other in the order
          of `jax.tree.leaves` (mappings by the alphabet of their keys, tuples and dataclasses by their fields); after
          it the mask, flattened likewise.
        """
        leaves = jax.tree.leaves(observation)
        if len(leaves) == 1 and mask is None:
            return jnp.asarray(leaves[0], jnp.float32)
        parts = [jnp.ravel(jnp.asarray(leaf, jnp.float32)) for leaf in (*leaves, *jax.tree.leaves(mask))]
        return jnp.concatenate(parts)


def make_observer(observation: Any, mask: Any = None) -> Observer:
    """Makes the `Observer` of observations of these shapes.

    Args:
      observation: arrays or `jax.ShapeDtypeStruct`s in any nesting.
      mask: the same of the action mask; None where there is none.

    Example:
      >>> one = make_observer({"grid": jnp.zeros((3, 2)), "time": jnp.int32(4)}, mask=jnp.ones(2, bool))
      >>> one.observation_shape, one.mask_size, one.masked_shape
      ((9,), 2, (7,))
      >>> one({"grid": jnp.zeros((3, 2)), "time": 4}, jnp.array([True, False])).tolist()
      [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 1.0, 0.0]
    """
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(observation)]
    size = sum(math.prod(shape) for shape in shapes)
    features = shapes[0] if len(shapes) == 1 else (size,)
    if mask is None:
        return Observer(features, 0, None)
    mask_size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(mask))
    return Observer((size + mask_size,), mask_size, features)

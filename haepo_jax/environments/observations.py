"""Observations of any structure as the one float32 array of the interface, with an action mask at its end."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path


class Observer(NamedTuple):
    """Converts observations of one structure."""

    observation_shape: tuple[int, ...]
    """Of the array: as it is where there is one array and no mask, else of a vector."""
    mask_size: int
    """Entries of the action mask at the end of the vector; 0 where there is none."""
    masked_shape: tuple[int, ...] | None
    """Of the features, where there is a mask: of the one array, or of the vector of several."""
    fields: tuple[str, ...]
    """Where the arrays of an observation lie, in their order; an empty name where it is an array itself."""
    mask_fields: tuple[str, ...]
    """The same of the action mask."""

    def __call__(self, observation: Any, mask: Any = None) -> jax.Array:
        """Converts one observation, and its action mask where there is one.

        Args:
          observation: numbers and arrays in any nesting of mappings, tuples and dataclasses.
          mask: boolean, of any shape, in the same.

        Returns:
          float32 `[*observation_shape]`: the one array as it is; several flattened, one after the other in the order
          of `jax.tree.leaves` (mappings by the alphabet of their keys, tuples and dataclasses by their fields); after
          it the mask, flattened likewise.

        Raises:
          ValueError: there are other fields than in those that this was made for, whose order would be another.
        """
        _check_fields("observation", observation, self.fields)
        _check_fields("action mask", mask, self.mask_fields)
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
        return Observer(features, 0, None, _list_fields(observation), ())
    mask_size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(mask))
    return Observer((size + mask_size,), mask_size, features, _list_fields(observation), _list_fields(mask))


def _list_fields(values: Any) -> tuple[str, ...]:
    return tuple(keystr(path, simple=True, separator=".") for path, _ in tree_leaves_with_path(values))


def _check_fields(what: str, values: Any, fields: tuple[str, ...]) -> None:
    if (given := _list_fields(values)) != fields:
        raise ValueError(f"The {what} has {_in_words(given)}; that of make_observer has {_in_words(fields)}.")


def _in_words(fields: tuple[str, ...]) -> str:
    if not fields:
        return "no array"
    return "one array" if fields == ("",) else f"the fields {', '.join(fields)}"

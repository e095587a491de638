"""States of other libraries in a form that every part of the package can carry."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class StatePacking:
    """Takes a library's states apart into their arrays that have elements, and puts them together again.

    A physics engine's state has many arrays without elements, which XLA cannot spread over devices, and numbers of
    Python, whose type a loop cannot carry.
    """

    structure: Any
    """Of the whole state."""
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    """Of all its arrays."""

    @classmethod
    def of(cls, state: Any) -> "StatePacking":
        """Makes the packing of states of this structure, shapes or arrays."""
        leaves, structure = jax.tree.flatten(state)
        return cls(structure, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))

    def pack(self, state: Any) -> tuple[jax.Array, ...]:
        """Returns the arrays that have elements.

        Raises:
          ValueError: the state has another structure.
        """
        leaves, structure = jax.tree.flatten(state)
        if structure != self.structure:
            raise ValueError("the state after a step has other fields than after a reset")
        arrays = (jnp.asarray(leaf, jnp.asarray(leaf).dtype) for leaf in leaves)
        return tuple(array for array in arrays if array.size)

    def unpack(self, arrays: tuple[jax.Array, ...]) -> Any:
        """Returns the state, of JAX's arrays: some libraries draw no others."""
        given = iter(arrays)
        leaves = [
            jnp.zeros(kind.shape, kind.dtype) if 0 in kind.shape else jnp.asarray(next(given)) for kind in self.shapes
        ]
        return jax.tree.unflatten(self.structure, leaves)


def key_shape() -> Any:
    """Returns the shape of a typed PRNG key, for tracing."""
    return jax.eval_shape(lambda: jax.random.key(0))

"""Networks that remember: a recurrent cell between the layers before it and the head after it.

What a cell remembers of an episode, its carry, begins anew with each episode. Only the cell goes step by step; the
layers around it take all steps at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Carry = Any
"""What a recurrent network remembers: a tree of arrays, empty for a network without memory."""
MakeCell = Callable[[], nn.RNNCellBase]

CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
"""The cells that a config can name in a word."""


class Memory(NamedTuple):
    """What a recurrent network is given beside observations.

    Without `resets` these are one step `[..., *O]`; with them they are T steps `[N, T, *O]`.
    """

    carry: Carry
    """Before the first step: `[..., *C]`, or `[N, *C]`."""
    resets: jax.Array | None = None
    """`[N, T]` boolean, True where a step begins an episode, and so with the initial carry."""
    keeps_all: bool = False
    """Whether the carry after each of T steps is asked for, `[N, T, *C]`, and not that after the last alone."""


class RecurrentTorso(nn.Module):
    """A multilayer perceptron, then a recurrent cell, whose output is the features."""

    observation_shape: tuple[int, ...]
    make_encoder: Callable[[], nn.Module]
    """Maps observations `[..., *observation_shape]` to the inputs `[..., input_size]` of the cell."""
    input_size: int
    make_cell: MakeCell

    @property
    def initial_carry(self) -> Carry:
        """Before an episode's first step: NumPy arrays without axes of a batch."""
        return make_initial_carry(self.make_cell(), self.input_size)

    def setup(self) -> None:
        """Makes the layers."""
        self.encoder = self.make_encoder()
        self.cell = self.make_cell()

    def __call__(self, observations: jax.Array, memory: Memory | None = None) -> Any:
        """Computes features.

        Args:
          observations: `[..., *O]`, or with `memory.resets` `[N, T, *O]`.
          memory: the carry before them; without it they are the first of their episodes.

        Returns:
          `(carry, features)`; without a memory the features alone.
        """
        if memory is None:
            inputs = self.encoder(observations)
            return self._step(repeat_carry(self._initial, *inputs.shape[:-1]), inputs)[1]
        if memory.resets is None:
            return self._step(memory.carry, self.encoder(observations))
        return self._unroll(observations, memory)

    def _unroll(self, observations: jax.Array, memory: Memory) -> tuple[Carry, jax.Array]:
        shape = observations.shape[:2]
        assert memory.resets is not None
        # As products of plain matrices, which take less time on CPU than those of [N, T, *O].
        inputs = self.encoder(observations.reshape(-1, *self.observation_shape))
        inputs = inputs.reshape(*shape, *inputs.shape[1:])
        initial = self._initial

        def step(torso: "RecurrentTorso", carry: Carry, xs: tuple[jax.Array, jax.Array]) -> tuple[Carry, Any]:
            inputs, resets = xs
            carry, features = torso._step(reset_carry(initial, carry, resets), inputs)
            return carry, (features, carry if memory.keeps_all else ())

        # Time leads while it is unrolled: to take a step from [T, N, F] is to take a piece of memory.
        by_time = jnp.moveaxis(inputs, 1, 0), jnp.broadcast_to(memory.resets, shape).T
        unroll = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        carry, (features, carries) = unroll(self, memory.carry, by_time)
        if memory.keeps_all:
            carry = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), carries)
        return carry, jnp.moveaxis(features, 0, 1)

    def _step(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        after, features = self.cell(carry, inputs)
        # A cell that computes in another type gives its carry in that.
        return jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry), features

    @property
    def _initial(self) -> Carry:
        """The same where the layers are made."""
        return make_initial_carry(self.cell, self.input_size)


def make_initial_carry(cell: nn.RNNCellBase, input_size: int) -> Carry:
    """Makes the carry before an episode's first step, the same at each call: NumPy arrays without axes of a batch.

    Args:
      cell: whose it is.
      input_size: F, of its inputs.
    """
    with jax.ensure_compile_time_eval():
        carry = cell.initialize_carry(jax.random.key(0), (input_size,))
        return jax.tree.map(np.asarray, carry)


def reset_carry(initial: Carry, carry: Carry, resets: jax.Array) -> Carry:
    """Puts the initial carry in the place of some.

    Args:
      initial: of one episode, `[*C]`.
      carry: `[N, *C]`.
      resets: `[N]` boolean, True where an episode begins.
    """
    return jax.tree.map(
        lambda first, old: jnp.where(resets.reshape(resets.shape + (1,) * first.ndim), first, old), initial, carry
    )


def repeat_carry(carry: Carry, *shape: int) -> Carry:
    """Repeats the carry of one episode, `[*C]`, to `[*shape, *C]`."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), carry)

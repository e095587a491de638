"""The gradient of a sum over steps of many episodes, added up one piece of time after the other."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.networks import Policy, unroll_log_probs
from haepo_jax.networks.recurrent import Carry
from haepo_jax.parallel import TRAJECTORIES
from haepo_jax.types import Params

Partial = Any
"""A gradient that is being added up."""


class Piece(NamedTuple):
    """Some steps of M episodes, as a policy sees them."""

    observations: jax.Array
    """`[M, t, *O]`."""
    actions: jax.Array
    """`[M, t]` or `[M, t, A]`."""
    resets: jax.Array | None = None
    """`[M, t]` boolean, True where a policy that remembers begins anew; None of a policy that does not."""
    carry: Carry = ()
    """`[M, *C]`, what it remembers before them."""


@dataclasses.dataclass(frozen=True)
class GradientSum:
    """`sum_kt slopes_kt grad log_probs_kt`, in the memory of one piece.

    Devices that share the trajectories add up their own, and meet once, at the end.
    """

    policy: Policy
    params: Params

    @property
    def _shares(self) -> int:
        return jax.sharding.get_abstract_mesh().shape.get(TRAJECTORIES, 1)

    def zero(self) -> Partial:
        """Before the first piece."""
        shares = () if self._shares == 1 else (self._shares,)
        return jax.tree.map(lambda leaf: jnp.zeros((*shares, *leaf.shape), leaf.dtype), self.params)

    def plus(
        self, so_far: Partial, piece: Piece, slopes: jax.Array, carry_slopes: Carry = ()
    ) -> tuple[Partial, Carry]:
        """Adds a piece.

        Args:
          so_far: the sum without it.
          piece: its steps.
          slopes: `[M, t]`, of their log-probabilities.
          carry_slopes: `[M, *C]`, of the carry after them, which all later pieces have given.

        Returns:
          The sum with it, and the slopes `[M, *C]` of the carry before it.
        """
        arguments, gradient = (piece, slopes, carry_slopes), self._gradient
        if self._shares == 1:
            of_piece, carry_slopes = gradient(*arguments)
        else:
            arguments = jax.tree.map(lambda leaf: leaf.reshape(self._shares, -1, *leaf.shape[1:]), arguments)
            of_piece, shared = jax.vmap(gradient)(*arguments)
            carry_slopes = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), shared)
        return jax.tree.map(jnp.add, so_far, of_piece), carry_slopes

    def total(self, so_far: Partial) -> Params:
        """The gradient."""
        return so_far if self._shares == 1 else jax.tree.map(lambda leaf: leaf.sum(axis=0), so_far)

    def _gradient(self, piece: Piece, slopes: jax.Array, carry_slopes: Carry) -> tuple[Params, Carry]:
        def log_probs(params: Params, carry: Carry) -> tuple[Carry, jax.Array]:
            return unroll_log_probs(self.policy, params, carry, piece.observations, piece.actions, piece.resets)

        _, pull_back = jax.vjp(log_probs, self.params, piece.carry)
        return pull_back((carry_slopes, slopes))

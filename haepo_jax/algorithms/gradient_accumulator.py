"""The gradient of a sum over steps of many episodes, added up one piece of time after the other."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.networks import Policy, action_log_probs
from haepo_jax.parallel import TRAJECTORIES
from haepo_jax.types import Params

Partial = Any
"""A gradient that is being added up."""


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

    def plus(self, so_far: Partial, observations: jax.Array, actions: jax.Array, slopes: jax.Array) -> Partial:
        """With a piece: observations `[M, t, *O]`, actions `[M, t]` or `[M, t, A]`, slopes `[M, t]`."""
        piece, gradient = (observations, actions, slopes), self._gradient
        if self._shares > 1:
            piece = jax.tree.map(lambda leaf: leaf.reshape(self._shares, -1, *leaf.shape[1:]), piece)
            gradient = jax.vmap(gradient)
        return jax.tree.map(jnp.add, so_far, gradient(*piece))

    def total(self, so_far: Partial) -> Params:
        """The gradient."""
        return so_far if self._shares == 1 else jax.tree.map(lambda leaf: leaf.sum(axis=0), so_far)

    def _gradient(self, observations: jax.Array, actions: jax.Array, slopes: jax.Array) -> Params:
        _, pull_back = jax.vjp(
            lambda params: action_log_probs(self.policy, params, observations, actions), self.params
        )
        return pull_back(slopes)[0]

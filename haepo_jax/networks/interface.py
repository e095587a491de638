"""Policies and value functions as the rest of the package sees them: pure functions, with a memory or without."""

from collections.abc import Callable
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp

from haepo_jax.networks.recurrent import Carry, Memory, repeat_carry
from haepo_jax.types import Params


class Recurrence[Output](NamedTuple):
    """The memory of a network, as pure functions."""

    start: Callable[[], Carry]
    """`() -> carry` before an episode's first step: NumPy arrays without axes of a batch. It is a function, so that a
    policy may be a static argument of a program."""
    apply: Callable[[Params, jax.Array, Memory], tuple[Carry, Output]]
    """`(params, observations, memory) -> (carry, output)`, for one step `[..., *O]` or for T `[N, T, *O]`; see
    `Memory`."""


class Policy(NamedTuple):
    """A policy as pure functions.

    It may remember what it has seen of an episode. What it remembers is its carry, which is empty for a policy without
    memory; `step` and `unroll` serve both kinds.
    """

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], distrax.Distribution]
    """`(params, observations [..., *O]) -> distribution over actions` with batch shape `[...]`; of a policy with a
    memory, at the first step of an episode."""
    noise: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    """`(key, batch shape) -> noise`, all that chance has in one action for each of the batch."""
    act: Callable[[distrax.Distribution, jax.Array], jax.Array]
    """`(distribution, noise) -> actions`."""
    recurrence: Recurrence[distrax.Distribution] | None = None
    """None for a policy without memory."""

    def start(self, *shape: int) -> Carry:
        """Makes the carry before the first step of episodes, `[*shape, *C]`."""
        return _start(self.recurrence, shape)

    def step(self, params: Params, carry: Carry, observations: jax.Array) -> tuple[Carry, distrax.Distribution]:
        """Sees one more step.

        Args:
          params: of the policy.
          carry: `[..., *C]`, from `start` or from the step before.
          observations: `[..., *O]`.

        Returns:
          The carry after the step, and the distribution over actions with batch shape `[...]`.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry))

    def unroll(
        self, params: Params, carry: Carry, observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, distrax.Distribution]:
        """Sees T more steps.

        Args:
          params: of the policy.
          carry: `[N, *C]`, before the first of them.
          observations: `[N, T, *O]`.
          resets: `[N, T]` or `[T]` boolean, True where a step begins an episode, whatever was before.

        Returns:
          The carry after the last step, and the distribution over actions with batch shape `[N, T]`.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry, resets))

    def map_inputs(self, change: Callable[[Params, jax.Array], tuple[Params, jax.Array]]) -> "Policy":
        """Makes the policy that sees other parameters and observations than it is given.

        Args:
          change: `(params, observations [..., *O]) -> the same as this policy is to see them`.
        """
        apply, recurrence = _map_inputs(self.apply, self.recurrence, change)
        return self._replace(apply=apply, recurrence=recurrence)

    def map_apply(self, change: Callable[[Callable], Callable]) -> "Policy":
        """Makes the policy whose network is applied by what `change` makes of each function that applies it."""
        recurrence = self.recurrence
        if recurrence is not None:
            recurrence = recurrence._replace(apply=change(recurrence.apply))
        return self._replace(apply=change(self.apply), recurrence=recurrence)


class Value(NamedTuple):
    """A value function as pure functions, with a memory or without, as a `Policy`."""

    init: Callable[[jax.Array], Params]
    """`key -> params`."""
    apply: Callable[[Params, jax.Array], jax.Array]
    """`(params, observations [..., *O]) -> values [...]`; with a memory, at the first step of an episode."""
    recurrence: Recurrence[jax.Array] | None = None
    """None for a value function without memory."""

    def start(self, *shape: int) -> Carry:
        """Makes the carry before the first step of episodes, `[*shape, *C]`."""
        return _start(self.recurrence, shape)

    def unroll(
        self, params: Params, carry: Carry, observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, jax.Array]:
        """Computes the values `[N, T]` of T more steps; arguments as of `Policy.unroll`."""
        if self.recurrence is None:
            return carry, self.apply(params, observations)
        return self.recurrence.apply(params, observations, Memory(carry, resets))

    def unroll_with_next(
        self, params: Params, carry: Carry, observations: jax.Array, next_observations: jax.Array, resets: jax.Array
    ) -> tuple[Carry, jax.Array, jax.Array]:
        """Computes the values of T more steps, and of what followed each.

        Args:
          params: of the value function.
          carry: `[N, *C]`, before the first step.
          observations: `[N, T, *O]`.
          next_observations: `[N, T, *O]`, after each step, which its episode's memory goes on to.
          resets: as of `unroll`.

        Returns:
          The carry after the last step, values `[N, T]`, and values `[N, T]` of the next observations.
        """
        if self.recurrence is None:
            return carry, self.apply(params, observations), self.apply(params, next_observations)
        carries, values = self.recurrence.apply(params, observations, Memory(carry, resets, keeps_all=True))
        _, following = self.recurrence.apply(params, next_observations, Memory(carries))
        return jax.tree.map(lambda leaf: leaf[:, -1], carries), values, following

    def map_inputs(self, change: Callable[[Params, jax.Array], tuple[Params, jax.Array]]) -> "Value":
        """Makes the value function that sees other parameters and observations, as `Policy.map_inputs` does."""
        apply, recurrence = _map_inputs(self.apply, self.recurrence, change)
        return self._replace(apply=apply, recurrence=recurrence)


def _start(recurrence: Recurrence | None, shape: tuple[int, ...]) -> Carry:
    return () if recurrence is None else repeat_carry(recurrence.start(), *shape)


def _map_inputs[Output](
    apply: Callable[[Params, jax.Array], Output],
    recurrence: Recurrence[Output] | None,
    change: Callable[[Params, jax.Array], tuple[Params, jax.Array]],
) -> tuple[Callable[[Params, jax.Array], Output], Recurrence[Output] | None]:
    def mapped(params: Params, observations: jax.Array) -> Output:
        return apply(*change(params, observations))

    if recurrence is None:
        return mapped, None

    def recur(params: Params, observations: jax.Array, memory: Memory) -> tuple[Carry, Output]:
        return recurrence.apply(*change(params, observations), memory)

    return mapped, recurrence._replace(apply=recur)


def unroll_log_probs(
    policy: Policy,
    params: Params,
    carry: Carry,
    observations: jax.Array,
    actions: jax.Array,
    resets: jax.Array | None,
) -> tuple[Carry, jax.Array]:
    """Computes the log-probabilities of actions of T more steps.

    Args:
      policy: whose they are.
      params: where to take them.
      carry: `[M, *C]`, before the first step.
      observations: `[M, T, *O]`.
      actions: `[M, T]` or `[M, T, A]`.
      resets: `[M, T]` or `[T]` boolean, True where a step begins an episode; None for a policy without memory.

    Returns:
      The carry after the last step, and `[M, T]` in nats.
    """
    if policy.recurrence is not None:
        assert resets is not None
        carry, distribution = policy.unroll(params, carry, observations, resets)
        return carry, distribution.log_prob(actions)
    # As products of plain matrices, which take a tenth less time on CPU than those of [M, T, *O].
    rows = [array.reshape(-1, *array.shape[2:]) for array in (observations, actions)]
    return carry, policy.apply(params, rows[0]).log_prob(rows[1]).reshape(observations.shape[:2])


def action_log_probs(policy: Policy, params: Params, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Computes those `[M, T]` of actions `[M, T]` or `[M, T, A]` of episodes from their first step, in nats."""
    start = policy.start(observations.shape[0])
    resets = jnp.zeros(observations.shape[1], bool)
    return unroll_log_probs(policy, params, start, observations, actions, resets)[1]

"""The steps of a batch as components from outside see them, whether it holds episodes or segments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.rollouts.segments import Segment


class Steps(NamedTuple):
    """T steps of each of N episodes, or of N environments whose episodes follow one another."""

    observations: jax.Array
    """`[N, T, ...]` as the policy saw them."""
    next_observations: jax.Array
    """`[N, T, ...]` after the action; at the last step of a complete episode, after which the policy saw nothing, the
    step's own observation."""
    actions: jax.Array
    """`[N, T]` or `[N, T, A]`."""
    log_probs: jax.Array
    """`[N, T]` log-probability of the action under the policy that played it, in nats."""
    rewards: jax.Array
    """`[N, T]` of the environment, 0 where masked."""
    mask: jax.Array
    """`[N, T]` boolean, True for the steps that count."""
    ends: jax.Array
    """`[N, T]` boolean, True where an episode ends or is cut with this step."""


def steps_of(batch: Any) -> Steps | None:
    """Returns the steps of a batch; None for one that is of no known kind, or does not keep them.

    Args:
      batch: of an algorithm.
    """
    if isinstance(batch, Segment):
        mask = jnp.ones(batch.rewards.shape, bool)
        return Steps(
            batch.observations,
            batch.next_observations,
            batch.actions,
            batch.log_probs,
            batch.rewards,
            mask,
            batch.done,
        )
    if isinstance(batch, Trajectories):
        has_next = jnp.pad(batch.mask[:, 1:], ((0, 0), (0, 1)))
        shape = has_next.shape + (1,) * (batch.observations.ndim - 2)
        following = jnp.where(has_next.reshape(shape), jnp.roll(batch.observations, -1, axis=1), batch.observations)
        rewards = jnp.where(batch.mask, batch.rewards, 0)
        return Steps(
            batch.observations,
            following,
            batch.actions,
            batch.log_probs,
            rewards,
            batch.mask,
            batch.mask & ~has_next,
        )
    return None

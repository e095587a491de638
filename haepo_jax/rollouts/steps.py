"""The steps of a batch as components from outside see them, whether it holds episodes or segments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.rollouts.packed import PackedEpisodes
from haepo_jax.rollouts.segments import Segment


class Steps(NamedTuple):
    """T steps of each of N episodes, or of N environments whose episodes follow one another.

    The latter are the segments of PPO and the lanes of a batch that is counted in steps (`config.min_batch_steps`), in
    which masked steps may lie between two episodes. Where several agents play, an episode is that of one of them, and
    those of an environment follow one another (`haepo_jax.rollouts.lanes`).
    """

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
        return Steps(
            batch.observations,
            batch.next_observations,
            batch.actions,
            batch.log_probs,
            batch.rewards,
            batch.where,
            batch.done,
        )
    if isinstance(batch, Trajectories):
        return _of_episodes(batch, jnp.pad(batch.mask[:, 1:], ((0, 0), (0, 1))))
    if isinstance(batch, PackedEpisodes):
        return _of_episodes(batch.steps, batch.has_next)
    return None


def _of_episodes(steps: Trajectories, has_next: jax.Array) -> Steps:
    """The steps of complete episodes; `has_next` `[N, T]` is True where a step of the same episode follows."""
    shape = has_next.shape + (1,) * (steps.observations.ndim - 2)
    following = jnp.where(has_next.reshape(shape), jnp.roll(steps.observations, -1, axis=1), steps.observations)
    rewards = jnp.where(steps.mask, steps.rewards, 0)
    return Steps(
        steps.observations,
        following,
        steps.actions,
        steps.log_probs,
        rewards,
        steps.mask,
        steps.mask & ~has_next,
    )

"""The log-likelihoods of episodes that were not kept, and their gradient: the episodes are played again.

The gradient of any loss of the log-likelihoods is `sum_k c_k grad L_k`, c being the loss's slopes (for HAEPO those of
`haepo_coefficients`). It is added up chunk by chunk while the same episodes are played from the same key, so that its
memory does not grow with their steps.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.algorithms.gradient_accumulator import GradientSum, Partial
from haepo_jax.networks import Policy
from haepo_jax.rollouts import episode_stats
from haepo_jax.rollouts.episode_stats import EpisodeStats
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories
from haepo_jax.types import Params

MakeUnroll = Callable[[Params, jax.Array, Mapping[str, jax.Array | float]], EpisodeUnroll]
"""`(params, key, environment's numbers) -> unroll`."""


class RecomputedBatch(NamedTuple):
    """M episodes: what they came to, and what it takes to play them again."""

    stats: EpisodeStats
    reference_log_likelihoods: jax.Array | None
    """`[M]` under the reference policy, in nats, if there is one."""
    params: Params
    """Of the policy that played them."""
    key: jax.Array
    """That they were played with."""
    env_params: Mapping[str, jax.Array | float]


def play(
    make_unroll: MakeUnroll,
    policy: Policy,
    params: Params,
    key: jax.Array,
    env_params: Mapping[str, jax.Array | float],
    *,
    discount: jax.Array | float,
    reference: Params | None,
) -> RecomputedBatch:
    """Plays the episodes for the first time, and judges them by the reference policy on the way."""
    unroll = make_unroll(params, key, env_params)
    if reference is None:
        stats, judged = episode_stats.play(unroll, discount), None
    else:
        stats, judged = episode_stats.play_with_log_likelihoods(unroll, discount, policy, reference)
    return RecomputedBatch(stats, judged, params, key, env_params)


def log_likelihoods(
    make_unroll: MakeUnroll,
    policy: Policy,
    params: Params,
    played: RecomputedBatch,
    *,
    fresh: jax.Array | bool = False,
) -> jax.Array:
    """The log-likelihoods of episodes under other parameters than those that played them.

    Args:
      make_unroll: as for `play`.
      policy: whose parameters they are.
      params: where to take them. No other argument has a gradient.
      played: the episodes.
      fresh: whether these parameters have played them. What they had then is not computed again; its gradient is.

    Returns:
      `[M]` in nats.
    """
    unroll = (played.params, played.key, played.env_params)
    return _log_likelihoods(make_unroll, policy, params, unroll, played.stats.log_likelihoods, jnp.asarray(fresh))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_likelihoods(
    make_unroll: MakeUnroll, policy: Policy, params: Params, unroll: tuple, known: jax.Array, fresh: jax.Array
) -> jax.Array:
    return jax.lax.cond(
        fresh, lambda: known, lambda: episode_stats.log_likelihoods(make_unroll(*unroll), policy, params)
    )


def _forward(
    make_unroll: MakeUnroll, policy: Policy, params: Params, unroll: tuple, *others: jax.Array
) -> tuple[jax.Array, tuple]:
    return _log_likelihoods(make_unroll, policy, params, unroll, *others), (params, unroll)


def _backward(make_unroll: MakeUnroll, policy: Policy, saved: tuple, slopes: jax.Array) -> tuple:
    params, unroll = saved
    gradient = GradientSum(policy, params)

    def add(t: jax.Array, steps: Trajectories, so_far: Partial) -> Partial:
        del t
        of_steps = jnp.where(steps.mask, slopes[:, None], 0)
        return gradient.plus(so_far, steps.observations, steps.actions, of_steps)

    # None but the parameters has a gradient.
    return gradient.total(make_unroll(*unroll).fold(add, gradient.zero())), None, None, None


_log_likelihoods.defvjp(_forward, _backward)

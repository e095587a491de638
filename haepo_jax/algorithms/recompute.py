"""The log-likelihoods of episodes that were not kept, and their gradient: the episodes are played again.

The gradient of any loss of the log-likelihoods is `sum_k c_k grad L_k`, c being the loss's slopes (for HAEPO those of
`haepo_coefficients`). It is added up chunk by chunk while the same episodes are played from the same key, so that its
memory does not grow with their steps. Of a policy that remembers it is taken from the last chunk to the first: the
state of the episodes is kept where each chunk begins, and each is played a third time from there.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.algorithms.gradient_accumulator import GradientSum, Partial, Piece
from haepo_jax.algorithms.running_statistics import (
    RunningStatistics,
    measure_statistics,
    merge_statistics,
    no_statistics,
)
from haepo_jax.environments import Environment
from haepo_jax.networks import Policy, unroll_log_probs
from haepo_jax.networks.recurrent import Carry
from haepo_jax.rollouts.episode_stats import (
    EpisodeStats,
    ignore,
    measure_both,
    measure_log_likelihoods,
    measure_stats,
    sum_and_watch,
    sum_over_chunks,
)
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories
from haepo_jax.rollouts.rounds import Rounds
from haepo_jax.types import Params

MakeUnroll = Callable[[Params, jax.Array, Mapping[str, jax.Array | float], jax.Array | None], EpisodeUnroll | Rounds]
"""`(params, key, environment's numbers, shares of persistences or None) -> unroll`, of M episodes or of rounds of
them."""


class RecomputedBatch(NamedTuple):
    """M episodes, or R rounds of them: what they came to, and what it takes to play them again.

    Sums over an episode are `[M]`, or `[R, M]` with 0 where none was played.
    """

    stats: EpisodeStats
    reference_log_likelihoods: jax.Array | None
    """Under the reference policy, in nats, if there is one."""
    params: Params
    """Of the policy that played them."""
    key: jax.Array
    """That they were played with."""
    env_params: Mapping[str, jax.Array | float]
    num_rounds: jax.Array | None
    """int32, of those that were played; None where M episodes are all."""
    exploration: jax.Array | None
    """Shares of persistences, as `LearnerState` had them."""
    persistences: jax.Array | None
    """int32, steps for which the noise of each episode's actions lasts; None where each step has its own."""
    observations: RunningStatistics | None = None
    """Of all steps; None where nobody asks."""

    @property
    def is_valid(self) -> jax.Array | None:
        """`[R, M]` boolean, True for the episodes of rounds that were played; None where all are."""
        if self.num_rounds is None:
            return None
        rounds, lanes = self.stats.lengths.shape
        return jnp.broadcast_to(jnp.arange(rounds)[:, None] < self.num_rounds, (rounds, lanes))


def play(
    make_unroll: MakeUnroll,
    policy: Policy,
    params: Params,
    key: jax.Array,
    env_params: Mapping[str, jax.Array | float],
    *,
    discount: jax.Array | float,
    reference: Params | None,
    exploration: jax.Array | None,
    watches_observations: bool = False,
) -> RecomputedBatch:
    """Plays the episodes for the first time, and judges them by the reference policy on the way."""
    measure = measure_stats(discount)
    if reference is not None:
        measure = measure_both(measure, measure_log_likelihoods(policy, reference))
    unroll = make_unroll(params, key, env_params, exploration)
    watch, unseen = ignore, None
    if watches_observations:
        watch, unseen = _watch_observations, no_statistics(_environment_of(unroll).observation_shape)
    if isinstance(unroll, Rounds):
        num_rounds, sums, seen = unroll.sum_over_steps(measure, watch, unseen)
        persistences = unroll.list_persistences(num_rounds)
    else:
        num_rounds, (sums, seen) = None, sum_and_watch(unroll, measure, watch, unseen)
        persistences = unroll.persistences
    stats, judged = (sums, None) if reference is None else sums
    return RecomputedBatch(stats, judged, params, key, env_params, num_rounds, exploration, persistences, seen)


def _environment_of(unroll: EpisodeUnroll | Rounds) -> Environment:
    return unroll.first.environment if isinstance(unroll, Rounds) else unroll.environment


def _watch_observations(steps: Trajectories, seen: RunningStatistics) -> RunningStatistics:
    return merge_statistics(seen, measure_statistics(steps.observations, steps.mask))


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
      `[M]` or `[R, M]` in nats.
    """
    again = _Again((played.params, played.key, played.env_params, played.exploration), played.num_rounds)
    return _log_likelihoods(make_unroll, policy, params, again, played.stats.log_likelihoods, jnp.asarray(fresh))


class _Again(NamedTuple):
    """What it takes to play episodes again."""

    unroll: tuple
    """The arguments of `make_unroll`."""
    num_rounds: Any
    """int32, of `Rounds`; None of M episodes."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_likelihoods(
    make_unroll: MakeUnroll, policy: Policy, params: Params, again: _Again, known: jax.Array, fresh: jax.Array
) -> jax.Array:
    measure = measure_log_likelihoods(policy, params)

    def compute() -> jax.Array:
        unroll = make_unroll(*again.unroll)
        if isinstance(unroll, Rounds):
            return unroll.sum_again(again.num_rounds, measure)
        return sum_over_chunks(unroll, measure)

    return jax.lax.cond(fresh, lambda: known, compute)


def _forward(
    make_unroll: MakeUnroll, policy: Policy, params: Params, again: _Again, *others: jax.Array
) -> tuple[jax.Array, tuple]:
    return _log_likelihoods(make_unroll, policy, params, again, *others), (params, again)


def _backward(make_unroll: MakeUnroll, policy: Policy, saved: tuple, slopes: jax.Array) -> tuple:
    params, again = saved
    gradient = GradientSum(policy, params)

    def slopes_of(slopes: jax.Array, steps: Trajectories) -> jax.Array:
        return jnp.where(steps.mask, slopes[:, None], 0)

    def add(slopes: jax.Array, t: jax.Array, steps: Trajectories, so_far: Partial) -> Partial:
        """Adds a chunk, whose M episodes have these slopes."""
        del t
        piece = Piece(steps.observations, steps.actions)
        return gradient.plus(so_far, piece, slopes_of(slopes, steps))[0]

    def pass_on(t: jax.Array, steps: Trajectories, carry: Carry) -> Carry:
        del t
        return unroll_log_probs(policy, params, carry, steps.observations, steps.actions, steps.resets)[0]

    def add_before(
        slopes: jax.Array, steps: Trajectories, carry: Carry, so_far: tuple[Partial, Carry]
    ) -> tuple[Partial, Carry]:
        """Adds a chunk to those after it, which have given the slopes of the carry between."""
        total, carry_slopes = so_far
        piece = Piece(steps.observations, steps.actions, steps.resets, carry)
        return gradient.plus(total, piece, slopes_of(slopes, steps), carry_slopes)

    def add_episodes(slopes: jax.Array, unroll: EpisodeUnroll, so_far: Partial) -> Partial:
        if policy.recurrence is None:
            return unroll.fold(functools.partial(add, slopes), so_far)
        carry = policy.start(unroll.num_lanes)
        start = (so_far, jax.tree.map(jnp.zeros_like, carry))
        return unroll.fold_back(pass_on, carry, functools.partial(add_before, slopes), start)[0]

    unroll = make_unroll(*again.unroll)
    if isinstance(unroll, Rounds):
        total = unroll.play_again(
            again.num_rounds,
            lambda number, unroll, so_far: add_episodes(slopes[number], unroll, so_far),
            gradient.zero(),
        )
    else:
        total = add_episodes(slopes, unroll, gradient.zero())
    return gradient.total(total), None, None, None  # none but the parameters has a gradient


_log_likelihoods.defvjp(_forward, _backward)

"""How the episodes of an update are held, by `config.memory`, and what a loss can ask of them.

`store` keeps every step and, for the gradient, what the policy made of it; `remat` keeps the steps and computes the
rest again, piece by piece; `recompute` keeps nothing but sums and plays the episodes again. `auto`, which populations
resolve, is `remat` here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from haepo_jax.algorithms import recompute, replay
from haepo_jax.algorithms.base import LearnerState, horizon_of
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import ExperimentConfig, TracedConfig, count_steps_of_update, get_method
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.methods import Group, StepGroup
from haepo_jax.networks import Policy
from haepo_jax.rollouts.episode_stats import EpisodeStats, episode_stats_of
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories, collect
from haepo_jax.types import Params

Batch = Any
"""`Trajectories`, or `recompute.RecomputedBatch`."""


class OpenBatch(NamedTuple):
    """A batch, ready to be learnt from."""

    group: Group | StepGroup
    """What the method's objective sees of it."""
    reference: jax.Array | None
    """What the objective takes, as of the reference policy; None without one."""
    evaluate: Callable[[Params, jax.Array | bool], jax.Array]
    """`(params, fresh) -> what the objective takes`; `fresh` where these are the parameters that played the batch."""


class Batches(NamedTuple):
    """The batches of one member, as functions."""

    collect: Callable[[TracedConfig, LearnerState, jax.Array], Batch]
    """`(traced, learner, key) -> batch`, played by the learner's policy."""
    open: Callable[[TracedConfig, LearnerState, Batch], OpenBatch]
    """`(traced, learner, batch) -> the same, to be learnt from`; of the learner it takes the reference."""
    stats: Callable[[Batch], EpisodeStats]
    """`batch -> statistics of its episodes`, its discounted returns left undiscounted."""


def make_batches(config: ExperimentConfig, environment: Environment, policy: Policy) -> Batches:
    """Makes the batches of the config's method, which sees episodes as wholes or step by step."""
    if config.memory == "recompute":
        return _recomputed(config, environment, policy)
    return _kept(config, environment, policy)


def _is_reused(config: ExperimentConfig) -> bool:
    return count_steps_of_update(config) > 1


def _kept(config: ExperimentConfig, environment: Environment, policy: Policy) -> Batches:
    """Batches whose steps are kept."""
    keeps_steps, is_reused = get_method(config).keeps_steps, _is_reused(config)
    rewards_of = make_rewards(config)
    replayed = replay.log_probs_at_once if config.memory == "store" else replay.log_probs

    def collect_episodes(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> Trajectories:
        return collect(
            environment,
            policy,
            learner.params,
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon_of(config, environment),
            env_params=traced.env_params,
        )

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: Trajectories) -> OpenBatch:
        learnt_from = batch._replace(rewards=rewards_of(traced, batch))
        returns = episode_stats_of(learnt_from, traced.discount).discounted_returns
        group = StepGroup(returns, batch.mask, batch.log_probs, is_reused)

        def evaluate(params: Params, fresh: jax.Array | bool = False) -> jax.Array:
            log_probs = replayed(policy, params, batch, fresh=fresh)
            return log_probs if keeps_steps else trajectory_log_likelihood(log_probs, where=batch.mask)

        reference = None if learner.reference is None else evaluate(learner.reference)
        return OpenBatch(group if keeps_steps else group.sum_over_steps(), reference, evaluate)

    return Batches(collect_episodes, open_batch, episode_stats_of)


def _recomputed(config: ExperimentConfig, environment: Environment, policy: Policy) -> Batches:
    """Batches that are played again instead of being kept, for a method that sees episodes as wholes."""
    is_reused = _is_reused(config)
    num_trajectories, horizon = config.num_trajectories, horizon_of(config, environment)

    def make_unroll(params: Params, key: jax.Array, env_params: Mapping[str, jax.Array | float]) -> EpisodeUnroll:
        return EpisodeUnroll(environment, policy, params, key, num_trajectories, horizon, env_params)

    def play(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> recompute.RecomputedBatch:
        return recompute.play(
            make_unroll,
            policy,
            learner.params,
            key,
            traced.env_params,
            discount=traced.discount,
            reference=learner.reference,
        )

    def open_batch(traced: TracedConfig, learner: LearnerState, batch: recompute.RecomputedBatch) -> OpenBatch:
        del traced, learner  # its reference has judged the batch while it was played
        stats = batch.stats
        group = Group(stats.discounted_returns, stats.lengths, stats.log_likelihoods, is_reused)

        def evaluate(params: Params, fresh: jax.Array | bool) -> jax.Array:
            return recompute.log_likelihoods(make_unroll, policy, params, batch, fresh=fresh)

        return OpenBatch(group, batch.reference_log_likelihoods, evaluate)

    return Batches(play, open_batch, lambda batch: batch.stats)

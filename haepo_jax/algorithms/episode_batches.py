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
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.networks import Policy
from haepo_jax.objectives import Group, Objective, StepGroup
from haepo_jax.rollouts.episode_stats import EpisodeStats, episode_stats_of
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories, collect
from haepo_jax.types import Metrics, Params

Batch = Any
"""`Trajectories`, or `recompute.Played`."""
BatchLoss = Callable[[Params, jax.Array | bool], tuple[jax.Array, Metrics]]
"""`(params, fresh) -> (loss, metrics)`; `fresh` where these are the parameters that played the batch."""


class Batches(NamedTuple):
    """The batches of one member, as functions."""

    collect: Callable[[ExperimentConfig, LearnerState, jax.Array], Batch]
    """`(config, learner, key) -> batch`, played by the learner's policy."""
    loss: Callable[[ExperimentConfig, LearnerState, Batch], BatchLoss]
    """`(config, learner, batch) -> loss`; of the learner it takes the reference."""
    stats: Callable[[Batch], EpisodeStats]
    """`batch -> outcome`, its discounted returns left undiscounted."""


MakeBatches = Callable[[ExperimentConfig, Environment, Policy], Batches]


def on_log_likelihoods(
    objective: Callable[[ExperimentConfig, Group, jax.Array | None], Objective],
) -> MakeBatches:
    """For a loss that sees of each episode its log-likelihood alone; it goes with every `config.memory`.

    Args:
      objective: `(config, group, log-likelihoods [M] under the reference, if there is one) -> objective` of the
        log-likelihoods `[M]` under the parameters that learn.
    """

    def of_steps(config: ExperimentConfig, group: StepGroup, reference_log_probs: jax.Array | None) -> Objective:
        def sums(log_probs: jax.Array) -> jax.Array:
            return trajectory_log_likelihood(log_probs, where=group.where)

        reference = None if reference_log_probs is None else sums(reference_log_probs)
        of_sums = objective(config, group.sum_over_steps(), reference)
        return lambda log_probs: of_sums(sums(log_probs))

    def make(config: ExperimentConfig, environment: Environment, policy: Policy) -> Batches:
        if config.memory == "recompute":
            return _played_again(config, environment, policy, objective)
        return on_log_probs(of_steps)(config, environment, policy)

    return make


def on_log_probs(
    objective: Callable[[ExperimentConfig, StepGroup, jax.Array | None], Objective],
) -> MakeBatches:
    """For a loss that sees every step, so that the steps must be kept.

    Args:
      objective: `(config, group, log-probabilities [M, T] under the reference, if there is one) -> objective` of the
        log-probabilities `[M, T]` under the parameters that learn.
    """

    def make(config: ExperimentConfig, environment: Environment, policy: Policy) -> Batches:
        replayed = replay.log_probs_at_once if config.memory == "store" else replay.log_probs

        def collect_episodes(config: ExperimentConfig, learner: LearnerState, key: jax.Array) -> Trajectories:
            return collect(
                environment,
                policy,
                learner.params,
                key,
                num_trajectories=config.num_trajectories,
                horizon=horizon_of(config, environment),
                env_params=config.env_params,
            )

        def loss(config: ExperimentConfig, learner: LearnerState, batch: Trajectories) -> BatchLoss:
            returns = episode_stats_of(batch, config.discount).discounted_returns
            reference = None if learner.reference is None else replayed(policy, learner.reference, batch)
            of_log_probs = objective(config, StepGroup(returns, batch.mask, batch.log_probs), reference)
            return lambda params, fresh: of_log_probs(replayed(policy, params, batch, fresh=fresh))

        return Batches(collect_episodes, loss, episode_stats_of)

    return make


def _played_again(
    config: ExperimentConfig,
    environment: Environment,
    policy: Policy,
    objective: Callable[[ExperimentConfig, Group, jax.Array | None], Objective],
) -> Batches:
    num_trajectories, horizon = config.num_trajectories, horizon_of(config, environment)

    def make_unroll(params: Params, key: jax.Array, env_params: Mapping[str, jax.Array | float]) -> EpisodeUnroll:
        return EpisodeUnroll(environment, policy, params, key, num_trajectories, horizon, env_params)

    def play(config: ExperimentConfig, learner: LearnerState, key: jax.Array) -> recompute.RecomputedBatch:
        return recompute.play(
            make_unroll,
            policy,
            learner.params,
            key,
            config.env_params,
            discount=config.discount,
            reference=learner.reference,
        )

    def loss(config: ExperimentConfig, learner: LearnerState, batch: recompute.RecomputedBatch) -> BatchLoss:
        del learner  # its reference has judged the batch while it was played
        returns, stats = batch.stats.discounted_returns, batch.stats
        group = Group(returns, stats.lengths, stats.log_likelihoods)
        of_sums = objective(config, group, batch.reference_log_likelihoods)

        def of_params(params: Params, fresh: jax.Array | bool) -> tuple[jax.Array, Metrics]:
            return of_sums(recompute.log_likelihoods(make_unroll, policy, params, batch, fresh=fresh))

        return of_params

    return Batches(play, loss, lambda batch: batch.stats)

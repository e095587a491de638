"""What the algorithms that learn from complete episodes share: all but their loss.

An update is `num_epochs` gradient steps on the loss of one batch of M episodes, then the reference moves. A loss sees
the batch and the log-probabilities of its actions, and nothing of where these come from.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.interface import (
    Algorithm,
    Learner,
    Loss,
    gradient_step,
    policy_for,
)
from haepo_jax.algorithms.replay import log_probs
from haepo_jax.config import ExperimentConfig, ReferenceConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_log_likelihood, trajectory_returns
from haepo_jax.objectives import Group, Metrics, Objective
from haepo_jax.optimizer import make_optimizer
from haepo_jax.policies import Params
from haepo_jax.reference import make_reference
from haepo_jax.rollout import Trajectories, collect, episode_metrics

EpisodeLoss = Callable[[ExperimentConfig, Trajectories, jax.Array | None], Objective]
"""`(config, trajectories, log-probabilities [M, T] under the reference, if there is one) -> objective` of the
log-probabilities `[M, T]` under the parameters that learn."""


def make_episodic(
    config: ExperimentConfig,
    environment: Environment,
    loss: EpisodeLoss,
    *,
    num_epochs: int = 1,
    reference: Callable[[ExperimentConfig], ReferenceConfig] | None = None,
) -> Algorithm:
    """An algorithm from its loss.

    Args:
      config: the experiment.
      environment: where it plays.
      loss: the algorithm's own part.
      num_epochs: gradient steps on each batch. The metrics of an update are those of the last.
      reference: the part of the config that rules the reference policy; None for an algorithm without one.

    Returns:
      The `Algorithm`, whose batches are `Trajectories`.
    """
    policy = policy_for(config, environment)
    rule = make_reference("none" if reference is None else reference(config).reference)
    horizon = min(config.horizon or environment.max_steps, environment.max_steps)

    def optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
        return make_optimizer(config.optimizer, config.num_updates * num_epochs)

    def init(config: ExperimentConfig, key: jax.Array) -> Learner:
        params = policy.init(key)
        return Learner(params, optimizer(config).init(params), rule.init(params))

    def collect_episodes(config: ExperimentConfig, learner: Learner, key: jax.Array) -> Trajectories:
        return collect(
            environment,
            policy,
            learner.params,
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon,
            env_params=config.env_params,
        )

    def objective(config: ExperimentConfig, learner: Learner, trajectories: Trajectories) -> Objective:
        reference_log_probs = None
        if learner.reference is not None:
            reference_log_probs = log_probs(policy, learner.reference, trajectories)
        return loss(config, trajectories, reference_log_probs)

    def batch_loss(config: ExperimentConfig, learner: Learner, trajectories: Trajectories) -> Loss:
        of_log_probs = objective(config, learner, trajectories)
        return lambda params: of_log_probs(log_probs(policy, params, trajectories))

    def learn(
        config: ExperimentConfig,
        learner: Learner,
        trajectories: Trajectories,
        updates_done: jax.Array,
        key: jax.Array,
    ) -> tuple[Learner, Metrics]:
        del key
        of_log_probs = objective(config, learner, trajectories)

        def epoch(carry: tuple[Params, Any], number: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            params, optimizer_state, metrics = gradient_step(
                lambda params: of_log_probs(log_probs(policy, params, trajectories, fresh=number == 0)),
                optimizer(config),
                *carry,
            )
            return (params, optimizer_state), metrics

        (params, optimizer_state), metrics = jax.lax.scan(
            epoch, (learner.params, learner.optimizer_state), jnp.arange(num_epochs)
        )
        moved = learner.reference
        if reference is not None:
            moved = rule.update(reference(config), learner.reference, learner.params, params, updates_done + 1)
        return Learner(params, optimizer_state, moved), jax.tree.map(lambda series: series[-1], metrics)

    return Algorithm(policy, init, collect_episodes, batch_loss, learn, episode_metrics)


def as_group(config: ExperimentConfig, trajectories: Trajectories) -> Group:
    """The batch as one group of an objective."""
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)
    return Group(returns, trajectories.mask, trajectories.log_probs)


def of_likelihoods(objective: Objective, trajectories: Trajectories) -> Objective:
    """An objective of log-likelihoods `[M]` as one of log-probabilities `[M, T]`."""
    return lambda log_probs: objective(trajectory_log_likelihood(log_probs, where=trajectories.mask))

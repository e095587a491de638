"""What the algorithms that learn from complete episodes share: all but their loss.

An update is `num_epochs` gradient steps on the loss of one batch of M episodes, then the reference moves.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from haepo_jax.algorithms.interface import (
    Algorithm,
    Learner,
    Loss,
    gradient_step,
    policy_for,
)
from haepo_jax.config import ExperimentConfig, ReferenceConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_returns
from haepo_jax.objectives import Group, Metrics
from haepo_jax.optimizer import make_optimizer
from haepo_jax.policies import Params, Policy
from haepo_jax.reference import make_reference
from haepo_jax.rollout import Trajectories, collect, episode_metrics

EpisodeLoss = Callable[[ExperimentConfig, Policy, Params | None, Trajectories], Loss]
"""`(config, policy, reference parameters, trajectories) -> loss`."""


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

    def batch_loss(config: ExperimentConfig, learner: Learner, trajectories: Trajectories) -> Loss:
        return loss(config, policy, learner.reference, trajectories)

    def learn(
        config: ExperimentConfig,
        learner: Learner,
        trajectories: Trajectories,
        updates_done: jax.Array,
        key: jax.Array,
    ) -> tuple[Learner, Metrics]:
        del key
        loss_fn = batch_loss(config, learner, trajectories)

        def epoch(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Metrics]:
            params, optimizer_state, metrics = gradient_step(loss_fn, optimizer(config), *carry)
            return (params, optimizer_state), metrics

        (params, optimizer_state), metrics = jax.lax.scan(
            epoch, (learner.params, learner.optimizer_state), length=num_epochs
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

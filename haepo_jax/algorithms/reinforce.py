"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

from typing import Any

import jax

from haepo_jax.algorithms.interface import (
    Algorithm,
    Learner,
    Metrics,
    gradient_step,
    log_likelihoods,
    make_optimizer,
    policy_for,
)
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import normalize_returns, reinforce_loss, trajectory_returns
from haepo_jax.policies import Params
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """REINFORCE for this config and environment; no metrics of its own."""
    policy = policy_for(config, environment)

    def optimizer(config: ExperimentConfig) -> Any:
        return make_optimizer(config.optimizer, config.num_updates)

    def init(config: ExperimentConfig, key: jax.Array) -> Learner:
        params = policy.init(key)
        return Learner(params, optimizer(config).init(params), None)

    def learn(
        config: ExperimentConfig, learner: Learner, trajectories: Trajectories, updates_done: jax.Array
    ) -> tuple[Learner, Metrics]:
        del updates_done
        returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)
        advantages = normalize_returns(returns, method=config.reinforce.normalization)

        def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
            return reinforce_loss(log_likelihoods(policy, params, trajectories), advantages)[0], {}

        params, optimizer_state, metrics = gradient_step(
            loss_fn, optimizer(config), learner.params, learner.optimizer_state
        )
        return Learner(params, optimizer_state, None), metrics

    return Algorithm(policy, init, learn)

"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

import jax

from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss, Metrics
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import normalize_returns, reinforce_loss, trajectory_returns
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """REINFORCE for this config and environment; no metrics of its own."""
    return make_episodic(config, environment, _loss)


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    del reference
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)
    advantages = normalize_returns(returns, method=config.reinforce.normalization)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        return reinforce_loss(log_likelihoods(policy, params, trajectories), advantages)[0], {}

    return loss_fn

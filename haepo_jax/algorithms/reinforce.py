"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

import jax

from haepo_jax.algorithms.episodic import as_group, make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import normalize_returns, reinforce_loss
from haepo_jax.objectives import Metrics
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """REINFORCE for this config and environment; no metrics of its own."""
    return make_episodic(config, environment, _loss)


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    del reference
    advantages = normalize_returns(as_group(config, trajectories).returns, method=config.reinforce.normalization)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        return reinforce_loss(log_likelihoods(policy, params, trajectories), advantages)[0], {}

    return loss_fn

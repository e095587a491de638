"""RLOO: one gradient step a batch, each return against the mean of the others."""

import jax

from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss, Metrics
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import rloo_loss, trajectory_returns
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """RLOO for this config and environment; no settings and no metrics of its own.

    Returns keep their scale, which the gradient's clip and Adam's normalisation mostly take out again.
    """
    return make_episodic(config, environment, _loss)


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    del reference
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        return rloo_loss(log_likelihoods(policy, params, trajectories), returns)[0], {}

    return loss_fn

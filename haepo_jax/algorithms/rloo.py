"""RLOO: one gradient step a batch, each return against the mean of the others."""

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """RLOO for this config and environment; no settings and no metrics of its own.

    Returns keep their scale, which the gradient's clip and Adam's normalisation mostly take out again.
    """
    return make_episodic(config, environment, _loss)


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    del reference
    objective = objectives.rloo(as_group(config, trajectories))
    return lambda params: objective(log_likelihoods(policy, params, trajectories))

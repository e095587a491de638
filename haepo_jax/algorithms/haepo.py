"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """HAEPO for this config and environment.

    The metrics are those of the last epoch, which shows how far the update has moved the weights.
    """
    return make_episodic(
        config, environment, _loss, num_epochs=config.haepo.num_epochs, reference=lambda config: config.haepo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    reference_log_likelihoods = None if reference is None else log_likelihoods(policy, reference, trajectories)
    objective = objectives.haepo(config.haepo, as_group(config, trajectories), reference_log_likelihoods)
    return lambda params: objective(log_likelihoods(policy, params, trajectories))

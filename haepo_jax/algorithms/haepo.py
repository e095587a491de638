"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import jax

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic, of_likelihoods
from haepo_jax.algorithms.interface import Algorithm
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.objectives import Objective
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """HAEPO for this config and environment.

    The metrics are those of the last epoch, which shows how far the update has moved the weights.
    """
    return make_episodic(
        config, environment, _objective, num_epochs=config.haepo.num_epochs, reference=lambda config: config.haepo
    )


def _objective(
    config: ExperimentConfig, trajectories: Trajectories, reference_log_probs: jax.Array | None
) -> Objective:
    reference_log_likelihoods = None
    if reference_log_probs is not None:
        reference_log_likelihoods = trajectory_log_likelihood(reference_log_probs, where=trajectories.mask)
    group = as_group(config, trajectories)
    return of_likelihoods(objectives.haepo(config.haepo, group, reference_log_likelihoods), trajectories)

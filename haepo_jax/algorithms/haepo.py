"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import jax

from haepo_jax import objectives
from haepo_jax.algorithms.base import Algorithm
from haepo_jax.algorithms.episode_batches import on_log_likelihoods
from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.objectives import Group, Objective


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """HAEPO for this config and environment.

    The metrics are those of the last epoch, which shows how far the update has moved the weights.
    """
    return make_episodic(
        config,
        environment,
        on_log_likelihoods(_objective),
        num_epochs=config.haepo.num_epochs,
        reference=lambda config: config.haepo,
    )


def _objective(config: ExperimentConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    return objectives.haepo(config.haepo, group, reference_log_likelihoods)

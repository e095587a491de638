"""RLOO: one gradient step a batch, each return against the mean of the others."""

import jax

from haepo_jax import objectives
from haepo_jax.algorithms.base import Algorithm
from haepo_jax.algorithms.episode_batches import on_log_likelihoods
from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.objectives import Group, Objective


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """RLOO for this config and environment; no settings and no metrics of its own.

    Returns keep their scale, which the gradient's clip and Adam's normalisation mostly take out again.
    """
    return make_episodic(config, environment, on_log_likelihoods(_objective))


def _objective(config: ExperimentConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    del config, reference_log_likelihoods
    return objectives.rloo(group.returns)

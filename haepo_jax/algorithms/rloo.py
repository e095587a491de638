"""RLOO: one gradient step a batch, each return against the mean of the others."""

import jax

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic, of_likelihoods
from haepo_jax.algorithms.interface import Algorithm
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.objectives import Objective
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """RLOO for this config and environment; no settings and no metrics of its own.

    Returns keep their scale, which the gradient's clip and Adam's normalisation mostly take out again.
    """
    return make_episodic(config, environment, _objective)


def _objective(
    config: ExperimentConfig, trajectories: Trajectories, reference_log_probs: jax.Array | None
) -> Objective:
    del reference_log_probs
    return of_likelihoods(objectives.rloo(as_group(config, trajectories)), trajectories)

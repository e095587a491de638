"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

import jax

from haepo_jax.algorithms.episodic import as_group, make_episodic, of_likelihoods
from haepo_jax.algorithms.interface import Algorithm
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import normalize_returns, reinforce_loss
from haepo_jax.objectives import Metrics, Objective
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """REINFORCE for this config and environment; no metrics of its own."""
    return make_episodic(config, environment, _objective)


def _objective(
    config: ExperimentConfig, trajectories: Trajectories, reference_log_probs: jax.Array | None
) -> Objective:
    del reference_log_probs
    advantages = normalize_returns(as_group(config, trajectories).returns, method=config.reinforce.normalization)

    def objective(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        return reinforce_loss(log_likelihoods, advantages)[0], {}

    return of_likelihoods(objective, trajectories)

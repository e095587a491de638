"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

import jax

from haepo_jax.algorithms.base import Algorithm
from haepo_jax.algorithms.episode_batches import on_log_likelihoods
from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import normalize_returns, reinforce_loss
from haepo_jax.objectives import Group, Objective
from haepo_jax.types import Metrics


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """REINFORCE for this config and environment; no metrics of its own."""
    return make_episodic(config, environment, on_log_likelihoods(_objective))


def _objective(config: ExperimentConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    del reference_log_likelihoods
    advantages = normalize_returns(group.returns, method=config.reinforce.normalization)

    def objective(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        return reinforce_loss(log_likelihoods, advantages)[0], {}

    return objective

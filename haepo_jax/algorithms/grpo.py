"""GRPO: clipped steps on every action of the batch, each trajectory's return against its group's."""

import jax

from haepo_jax import objectives
from haepo_jax.algorithms.base import Algorithm
from haepo_jax.algorithms.episode_batches import on_log_probs
from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.objectives import Objective, StepGroup


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """GRPO for this config and environment, with the metrics of the last epoch.

    The group is the batch: environments have no prompts, and all episodes answer the same question.
    """
    return make_episodic(
        config,
        environment,
        on_log_probs(_objective),
        num_epochs=config.grpo.num_epochs,
        reference=lambda config: config.grpo,
    )


def _objective(config: ExperimentConfig, group: StepGroup, reference_log_probs: jax.Array | None) -> Objective:
    return objectives.grpo(config.grpo, group, reference_log_probs)

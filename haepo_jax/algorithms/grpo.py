"""GRPO: clipped steps on every action of the batch, each trajectory's return against its group's."""

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss
from haepo_jax.algorithms.replay import log_probs
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """GRPO for this config and environment, with the metrics of the last epoch.

    The group is the batch: environments have no prompts, and all episodes answer the same question.
    """
    return make_episodic(
        config, environment, _loss, num_epochs=config.grpo.num_epochs, reference=lambda config: config.grpo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    reference_log_probs = None if reference is None else log_probs(policy, reference, trajectories)
    objective = objectives.grpo(config.grpo, as_group(config, trajectories), reference_log_probs)
    return lambda params: objective(log_probs(policy, params, trajectories))

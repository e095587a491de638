"""GRPO: clipped steps on every action of the batch, each trajectory's return against its group's."""

import jax

from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss, Metrics, scalars
from haepo_jax.algorithms.replay import log_probs
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import group_relative_advantages, grpo_loss, trajectory_returns
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """GRPO for this config and environment. Metrics of the last epoch: `clip_fraction`, `approx_kl`, `reference_kl`.

    The group is the batch: environments have no prompts, and all episodes answer the same question.
    """
    return make_episodic(
        config, environment, _loss, num_epochs=config.grpo.num_epochs, reference=lambda config: config.grpo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    grpo = config.grpo
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)
    advantages = group_relative_advantages(returns, scale=grpo.advantage_scale == "std")
    reference_log_probs = None if reference is None else log_probs(policy, reference, trajectories)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        loss, terms = grpo_loss(
            log_probs(policy, params, trajectories),
            trajectories.log_probs,
            advantages,
            reference_log_probs,
            clip_epsilon=grpo.clip_epsilon,
            kl_coef=0 if reference is None else grpo.kl_coef,
            where=trajectories.mask,
            aggregation=grpo.aggregation,
        )
        metrics = {"clip_fraction": terms.clip_fraction, "approx_kl": terms.approx_kl, "reference_kl": terms.kl}
        return loss, scalars(metrics)

    return loss_fn

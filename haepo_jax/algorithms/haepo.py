"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import jax

from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss, Metrics, scalars
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import haepo_loss, trajectory_log_likelihood, trajectory_returns, trajectory_scores
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """HAEPO for this config and environment.

    The metrics are those of the last epoch, which shows how far the update has moved the weights:
    `effective_sample_size`, `max_weight`, `weights_entropy`, `weights_kl`, and `returns_sum_not_positive`
    (1 where `sum` normalisation had to drop the returns).
    """
    return make_episodic(
        config, environment, _loss, num_epochs=config.haepo.num_epochs, reference=lambda config: config.haepo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    haepo = config.haepo
    behaviour = trajectory_log_likelihood(trajectories.log_probs, where=trajectories.mask)
    lengths = trajectories.mask.sum(axis=-1)
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)

    def scores(params: Params) -> jax.Array:
        return trajectory_scores(
            log_likelihoods(policy, params, trajectories),
            kind=haepo.score,
            lengths=lengths,
            behaviour_log_likelihoods=behaviour,
        )

    reference_scores = None if reference is None else scores(reference)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        loss, terms = haepo_loss(
            scores(params),
            returns,
            reference_scores,
            entropy_coef=haepo.entropy_coef,
            kl_coef=0 if reference_scores is None else haepo.kl_coef,
            temperature=haepo.temperature,
            normalization=haepo.normalization,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "max_weight": terms.max_weight,
            "weights_entropy": terms.entropy,
            "weights_kl": terms.kl,
            "returns_sum_not_positive": terms.returns_sum_not_positive,
        }
        return loss, scalars(metrics)

    return loss_fn

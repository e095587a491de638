"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

from typing import Any

import jax

from haepo_jax.algorithms.interface import (
    Algorithm,
    Learner,
    Metrics,
    gradient_step,
    log_likelihoods,
    make_optimizer,
    policy_for,
    scalar,
)
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import haepo_loss, trajectory_log_likelihood, trajectory_returns, trajectory_scores
from haepo_jax.policies import Params
from haepo_jax.reference import make_reference
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """HAEPO for this config and environment.

    The metrics are those of the last epoch, which shows how far the update has moved the weights:
    `effective_sample_size`, `max_weight`, `weights_entropy`, `weights_kl`, and `returns_sum_not_positive`
    (1 where `sum` normalisation had to drop the returns).
    """
    policy = policy_for(config, environment)
    reference_rule = make_reference(config.haepo.reference)
    num_epochs = config.haepo.num_epochs

    def optimizer(config: ExperimentConfig) -> Any:
        return make_optimizer(config.optimizer, config.num_updates * num_epochs)

    def init(config: ExperimentConfig, key: jax.Array) -> Learner:
        params = policy.init(key)
        return Learner(params, optimizer(config).init(params), reference_rule.init(params))

    def learn(
        config: ExperimentConfig, learner: Learner, trajectories: Trajectories, updates_done: jax.Array
    ) -> tuple[Learner, Metrics]:
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

        reference_scores = None if learner.reference is None else scores(learner.reference)

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
            return loss, {
                "effective_sample_size": scalar(terms.effective_sample_size),
                "max_weight": scalar(terms.max_weight),
                "weights_entropy": scalar(terms.entropy),
                "weights_kl": scalar(terms.kl),
                "returns_sum_not_positive": scalar(terms.returns_sum_not_positive),
            }

        def epoch(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Metrics]:
            params, optimizer_state, metrics = gradient_step(loss_fn, optimizer(config), *carry)
            return (params, optimizer_state), metrics

        (params, optimizer_state), metrics = jax.lax.scan(
            epoch, (learner.params, learner.optimizer_state), length=num_epochs
        )
        reference = reference_rule.update(haepo, learner.reference, learner.params, params, updates_done + 1)
        return Learner(params, optimizer_state, reference), jax.tree.map(lambda series: series[-1], metrics)

    return Algorithm(policy, init, learn)

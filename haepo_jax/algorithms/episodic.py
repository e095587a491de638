"""Learning from complete episodes.

An update is `num_epochs` gradient steps on the loss of one batch of episodes, and of as many earlier ones as compete
again; then the reference moves.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, policy_for
from haepo_jax.algorithms.episode_batches import Batch, make_batches
from haepo_jax.algorithms.exploration import EXPLORATION_SHARE, count_exploration, make_shares, update_shares
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.config import ExperimentConfig, TracedConfig, count_steps_of_update, explores, get_method_settings
from haepo_jax.environments import Environment
from haepo_jax.methods import get_reference_rule
from haepo_jax.optimizer import make_optimizer
from haepo_jax.types import Metrics, Params


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of a method that sees complete episodes.

    The metrics of an update are those of its last epoch, which shows how far the update has moved the policy.

    Args:
      config: the experiment.
      environment: where it plays.
    """
    policy, num_epochs = policy_for(config, environment), count_steps_of_update(config)
    batches = make_batches(config, environment, policy)
    rule = make_reference(get_reference_rule(get_method_settings(config)))

    def optimizer(traced: TracedConfig) -> optax.GradientTransformation:
        return make_optimizer(traced.optimizer, config.num_updates * num_epochs)

    def init(traced: TracedConfig, key: jax.Array) -> LearnerState:
        params = policy.init(key)
        shares = make_shares(traced.exploration) if explores(config) else None
        learner = LearnerState(params, optimizer(traced).init(params), rule.init(params), exploration=shares)
        return dataclasses.replace(learner, history=batches.no_history(traced, learner, key))

    def batch_loss(traced: TracedConfig, learner: LearnerState, batch: Batch) -> Loss:
        loss = batches.loss(traced, learner, batch)
        return lambda params: loss(params, False)

    def learn(
        traced: TracedConfig, learner: LearnerState, batch: Batch, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        del key
        loss = batches.loss(traced, learner, batch)

        def epoch(carry: tuple[Params, Any], number: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            params, optimizer_state, metrics = gradient_step(
                lambda params: loss(params, number == 0), optimizer(traced), *carry
            )
            return (params, optimizer_state), metrics

        (params, optimizer_state), metrics = jax.lax.scan(
            epoch, (learner.params, learner.optimizer_state), jnp.arange(num_epochs)
        )
        reference = rule.update(
            get_method_settings(traced), learner.reference, learner.params, params, updates_done + 1
        )
        metrics = jax.tree.map(lambda series: series[-1], metrics)
        shares = learner.exploration
        if shares is not None:
            metrics[EXPLORATION_SHARE] = count_exploration(shares)
            returns = batches.returns(traced, batch)
            shares = update_shares(traced.exploration, shares, batch.persistences, returns)
        history = batches.remember(traced, learner, batch)
        return LearnerState(params, optimizer_state, reference, exploration=shares, history=history), metrics

    return Algorithm(policy, init, batches.collect, batch_loss, learn, batches.measure)

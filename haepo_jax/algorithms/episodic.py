"""What the algorithms that learn from complete episodes share: all but their loss.

An update is `num_epochs` gradient steps on the loss of one batch of M episodes, then the reference moves.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, horizon_of, policy_for
from haepo_jax.algorithms.episode_batches import Batch, MakeBatches
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.config import ExperimentConfig, ReferenceConfig
from haepo_jax.environments import Environment
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.episode_stats import episode_metrics
from haepo_jax.types import Metrics, Params


def make_episodic(
    config: ExperimentConfig,
    environment: Environment,
    make_batches: MakeBatches,
    *,
    num_epochs: int = 1,
    reference: Callable[[ExperimentConfig], ReferenceConfig] | None = None,
) -> Algorithm:
    """An algorithm from its loss.

    Args:
      config: the experiment.
      environment: where it plays.
      make_batches: `on_log_likelihoods` or `on_log_probs` of `batches`, with the algorithm's own loss.
      num_epochs: gradient steps on each batch. The metrics of an update are those of the last.
      reference: the part of the config that rules the reference policy; None for an algorithm without one.

    Returns:
      The `Algorithm`.
    """
    policy = policy_for(config, environment)
    batches = make_batches(config, environment, policy)
    rule = make_reference("none" if reference is None else reference(config).reference)

    def optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
        return make_optimizer(config.optimizer, config.num_updates * num_epochs)

    def init(config: ExperimentConfig, key: jax.Array) -> LearnerState:
        params = policy.init(key)
        return LearnerState(params, optimizer(config).init(params), rule.init(params))

    def batch_loss(config: ExperimentConfig, learner: LearnerState, batch: Batch) -> Loss:
        loss = batches.loss(config, learner, batch)
        return lambda params: loss(params, False)

    def learn(
        config: ExperimentConfig, learner: LearnerState, batch: Batch, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        del key
        loss = batches.loss(config, learner, batch)

        def epoch(carry: tuple[Params, Any], number: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            params, optimizer_state, metrics = gradient_step(
                lambda params: loss(params, number == 0), optimizer(config), *carry
            )
            return (params, optimizer_state), metrics

        (params, optimizer_state), metrics = jax.lax.scan(
            epoch, (learner.params, learner.optimizer_state), jnp.arange(num_epochs)
        )
        moved = learner.reference
        if reference is not None:
            moved = rule.update(reference(config), learner.reference, learner.params, params, updates_done + 1)
        return LearnerState(params, optimizer_state, moved), jax.tree.map(lambda series: series[-1], metrics)

    def measure(batch: Batch) -> Metrics:
        return episode_metrics(batches.stats(batch))

    steps = config.num_trajectories * horizon_of(config, environment)
    return Algorithm(policy, steps, init, batches.collect, batch_loss, learn, measure)

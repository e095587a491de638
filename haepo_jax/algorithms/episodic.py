"""Learning from complete episodes.

An update is `num_epochs` gradient steps on the loss of one batch of episodes, and of as many earlier ones as compete
again; then the reference moves. A method that adapts its settings does so before the first of them and after the last.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, policy_for
from haepo_jax.algorithms.episode_batches import Batch, OpenBatch, make_batches
from haepo_jax.algorithms.exploration import EXPLORATION_SHARE, count_exploration, make_shares, update_shares
from haepo_jax.algorithms.normalization import Normalizer
from haepo_jax.algorithms.outside import get_adaptation, get_objective
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.config import ExperimentConfig, TracedConfig, count_steps_of_update, explores, get_method_settings
from haepo_jax.environments import Environment
from haepo_jax.methods import Objective, PullBack, SeenBatch, get_reference_rule
from haepo_jax.optimizer import make_optimizer
from haepo_jax.types import Metrics, Params


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of a method that sees complete episodes.

    The metrics of an update are those of its last epoch, which shows how far the update has moved the policy.

    Args:
      config: the experiment.
      environment: where it plays.
    """
    network, num_epochs = policy_for(config, environment), count_steps_of_update(config)
    normalizer = Normalizer(config, environment)
    policy = normalizer.wrap_policy(network)
    batches = make_batches(config, environment, policy, normalizer)
    rule = make_reference(get_reference_rule(get_method_settings(config)))
    make_objective, adaptation = get_objective(config), get_adaptation(config)

    def optimizer(traced: TracedConfig) -> optax.GradientTransformation:
        return make_optimizer(traced.optimizer, config.num_updates * num_epochs)

    def init(traced: TracedConfig, key: jax.Array) -> LearnerState:
        params, seen = network.init(key), normalizer.init()
        adapted = None if adaptation is None else adaptation.init(get_method_settings(traced), params)
        shares = make_shares(traced.exploration) if explores(config) else None
        learner = LearnerState(
            params,
            optimizer(traced).init(params),
            rule.init(normalizer.bind(seen, params)),
            exploration=shares,
            adaptation=adapted,
            normalization=seen,
        )
        return dataclasses.replace(learner, history=batches.no_history(traced, learner, key))

    def objective_of(batch: OpenBatch, settings: Any) -> Objective:
        return make_objective(settings, batch.group, batch.reference)

    def as_seen(batch: OpenBatch, params: Params, fresh: bool) -> SeenBatch:
        return SeenBatch(
            batch.group,
            lambda settings: objective_of(batch, settings),
            lambda: _differentiate(lambda params: batch.evaluate(params, fresh), params),
        )

    def with_returns(traced: TracedConfig, learner: LearnerState, batch: Batch) -> LearnerState:
        seen = normalizer.count_returns(traced, learner.normalization, batch)
        return dataclasses.replace(learner, normalization=seen)

    def batch_loss(traced: TracedConfig, learner: LearnerState, batch: Batch) -> Loss:
        opened = batches.open(traced, with_returns(traced, learner, batch), batch)
        objective = objective_of(opened, get_method_settings(traced))
        return lambda params: objective(opened.evaluate(params, False))

    def learn(
        traced: TracedConfig, learner: LearnerState, batch: Batch, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        del key
        learner = with_returns(traced, learner, batch)
        opened = batches.open(traced, learner, batch)
        settings, adapted = get_method_settings(traced), learner.adaptation
        if adaptation is not None:
            settings, adapted = adaptation.begin(settings, adapted, as_seen(opened, learner.params, True))
        objective = objective_of(opened, settings)

        def epoch(carry: tuple[Params, Any, Params], number: jax.Array) -> tuple[tuple[Params, Any, Params], Metrics]:
            before, optimizer_state, _ = carry
            params, optimizer_state, metrics = gradient_step(
                lambda params: objective(opened.evaluate(params, number == 0)),
                optimizer(traced),
                before,
                optimizer_state,
            )
            return (params, optimizer_state, None if adaptation is None else before), metrics

        start = (learner.params, learner.optimizer_state, None if adaptation is None else learner.params)
        (params, optimizer_state, before), series = jax.lax.scan(epoch, start, jnp.arange(num_epochs))
        metrics = jax.tree.map(lambda values: values[-1], series)
        if adaptation is not None:
            adapted = adaptation.end(settings, adapted, as_seen(opened, before, num_epochs == 1), metrics)
        seen = normalizer.count_observations(learner.normalization, batch)
        reference = rule.update(
            get_method_settings(traced),
            learner.reference,
            normalizer.policy_params(learner),
            normalizer.bind(seen, params),
            updates_done + 1,
        )
        shares = learner.exploration
        if shares is not None:
            metrics[EXPLORATION_SHARE] = count_exploration(shares)
            returns = batches.returns(traced, batch)
            before = None if learner.history is None else learner.history.episodes
            earlier = None if before is None else (before.persistences, before.returns)
            shares = update_shares(traced.exploration, shares, batch.persistences, returns, earlier)
        history = batches.remember(traced, learner, batch)
        learner = LearnerState(
            params,
            optimizer_state,
            reference,
            exploration=shares,
            history=history,
            adaptation=adapted,
            normalization=seen,
        )
        return learner, metrics

    return Algorithm(policy, normalizer.policy_params, init, batches.collect, batch_loss, learn, batches.measure)


def _differentiate(evaluate: Callable[[Params], jax.Array], params: Params) -> tuple[jax.Array, PullBack]:
    values, pull_back = jax.vjp(evaluate, params)
    return values, lambda slopes: pull_back(slopes)[0]

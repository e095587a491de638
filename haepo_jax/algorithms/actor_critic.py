"""Learning from segments: steps on shuffled minibatches of what environments have played.

A method learns from single steps, with an actor and a critic, or from pieces of h steps that compete; its settings say
so (`haepo_jax.methods.SegmentPlan`), and whether the environments carry on from update to update.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, horizon_of, policy_for
from haepo_jax.algorithms.blocks import Judged, cut_into_blocks, in_units, make_blocks, make_samples, rows_of
from haepo_jax.algorithms.outside import get_adaptation, get_objective
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import (
    ExperimentConfig,
    TracedConfig,
    count_segment_steps,
    count_steps_of_update,
    get_method_settings,
)
from haepo_jax.environments import Environment
from haepo_jax.methods import Blocks, Evaluated, PullBack, Samples, SeenBatch, get_reference_rule, get_segment_plan
from haepo_jax.networks import Policy, Value, action_log_probs, make_torso, make_value
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.episode_stats import episode_metrics, episode_stats_of
from haepo_jax.rollouts.episodes import Trajectories, collect
from haepo_jax.rollouts.segments import Segment, collect_segment, segment_metrics, start
from haepo_jax.types import Metrics, Params

Batch = Segment | Trajectories


class _Steps(NamedTuple):
    """What a gradient step learns from; the leading axis holds what minibatches are made of."""

    observations: jax.Array
    actions: jax.Array
    samples: Samples | Blocks


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of a method that sees segments.

    Policy and value function are networks of their own, of one shape. Environments that carry on are reset only when
    their episode ends; a value stands in for the rewards after a time limit. Metrics are means over the last epoch.

    Args:
      config: the experiment.
      environment: where it plays.
    """
    own = get_method_settings(config)
    found = get_segment_plan(own)
    assert found is not None
    plan = found
    make_objective, adaptation = get_objective(config), get_adaptation(config)
    policy, critic = _make_networks(config, environment, has_critic=plan.has_critic)
    rule = make_reference(get_reference_rule(own))
    rewards_of = make_rewards(config)
    horizon = horizon_of(config, environment)

    def optimizer(traced: TracedConfig) -> optax.GradientTransformation:
        return make_optimizer(traced.optimizer, config.num_updates * count_steps_of_update(config))

    def init(traced: TracedConfig, key: jax.Array) -> LearnerState:
        params = policy.init(key)
        running = None
        if plan.carries_on:
            running = start(environment, traced.env_params, jax.random.fold_in(key, 2), config.num_trajectories)
        return LearnerState(
            params,
            optimizer(traced).init(params),
            rule.init(params),
            environments=running,
            adaptation=None if adaptation is None else adaptation.init(get_method_settings(traced), params),
        )

    def collect_batch(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> Batch:
        if plan.carries_on:
            return collect_segment(
                environment,
                policy,
                learner.params,
                learner.environments,
                key,
                num_steps=count_segment_steps(config),
                horizon=horizon,
                env_params=traced.env_params,
            )
        return collect(
            environment,
            policy,
            learner.params,
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon,
            env_params=traced.env_params,
            keeps_ends=plan.has_critic,
        )

    def prepare(traced: TracedConfig, learner: LearnerState, batch: Batch) -> _Steps:
        """The batch in units that are shuffled, with advantages and value targets from these parameters."""
        rows, values, next_values = rows_of(batch), None, None
        if critic is not None:
            values = critic.apply(learner.params["value"], rows.observations)
            assert rows.next_observations is not None
            next_values = critic.apply(learner.params["value"], rows.next_observations)
        reference = None
        if learner.reference is not None:
            reference = action_log_probs(policy, learner.reference, rows.observations, rows.actions)
        judged = Judged(rewards_of(traced, batch), values, next_values, reference)
        numbers = traced.discount, get_method_settings(traced).gae_lambda
        if plan.length is None:
            steps = _Steps(rows.observations, rows.actions, make_samples(rows, judged, *numbers))
            return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), steps)
        observations, actions = cut_into_blocks((rows.observations, rows.actions), plan)
        return in_units(_Steps(observations, actions, make_blocks(rows, judged, plan, *numbers)), plan)

    def evaluate(params: Params, steps: _Steps) -> Evaluated:
        shape = steps.samples.log_probs.shape
        observations, actions = (
            leaf.reshape(-1, *leaf.shape[len(shape) :]) for leaf in (steps.observations, steps.actions)
        )
        distribution = policy.apply(params, observations)
        values = None if critic is None else critic.apply(params["value"], observations).reshape(shape)
        log_probs, entropies = distribution.log_prob(actions), distribution.entropy()
        return Evaluated(log_probs.reshape(shape), entropies.reshape(shape), values)

    def loss_of_steps(settings: Any, steps: _Steps) -> Loss:
        objective = make_objective(settings, steps.samples)
        return lambda params: objective(evaluate(params, steps))

    def as_seen(steps: _Steps, params: Params) -> SeenBatch:
        def differentiate() -> tuple[Evaluated, PullBack]:
            values, pull_back = jax.vjp(lambda params: evaluate(params, steps), params)
            return values, lambda slopes: pull_back(slopes)[0]

        return SeenBatch(steps.samples, lambda settings: make_objective(settings, steps.samples), differentiate)

    def batch_loss(traced: TracedConfig, learner: LearnerState, batch: Batch) -> Loss:
        return loss_of_steps(get_method_settings(traced), prepare(traced, learner, batch))

    def learn(
        traced: TracedConfig, learner: LearnerState, batch: Batch, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        steps = prepare(traced, learner, batch)
        settings, adapted = get_method_settings(traced), learner.adaptation
        if adaptation is not None:
            settings, adapted = adaptation.begin(settings, adapted, as_seen(steps, learner.params))

        def minibatch(carry: tuple[Params, Any], rows: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            chosen = jax.tree.map(lambda leaf: leaf[rows], steps)
            params, optimizer_state, metrics = gradient_step(
                loss_of_steps(settings, chosen), optimizer(traced), *carry
            )
            return (params, optimizer_state), metrics

        def epoch(carry: tuple[Params, Any], key: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            order = jax.random.permutation(key, steps.actions.shape[0])
            return jax.lax.scan(minibatch, carry, order.reshape(own.num_minibatches, -1))

        keys = jax.random.split(key, own.num_epochs)
        (params, optimizer_state), series = jax.lax.scan(epoch, (learner.params, learner.optimizer_state), keys)
        metrics = {name: jnp.mean(values[-1]) for name, values in series.items()}
        if adaptation is not None:
            adapted = adaptation.end(settings, adapted, as_seen(steps, params), metrics)
        reference = rule.update(
            get_method_settings(traced), learner.reference, learner.params, params, updates_done + 1
        )
        running = batch.running if isinstance(batch, Segment) else None
        learner = LearnerState(params, optimizer_state, reference, environments=running, adaptation=adapted)
        return learner, metrics

    return Algorithm(policy, init, collect_batch, batch_loss, learn, _measure)


def _make_networks(
    config: ExperimentConfig, environment: Environment, *, has_critic: bool
) -> tuple[Policy, Value | None]:
    """Makes the policy and, if one is asked for, the value function; parameters are then `policy` and `value`."""
    actor = policy_for(config, environment)
    if not has_critic:
        return actor, None
    shape = environment.observation_shape
    critic = make_value(shape, make_torso=make_torso(config.policy, shape))
    policy = Policy(
        init=lambda key: {
            "policy": actor.init(jax.random.fold_in(key, 0)),
            "value": critic.init(jax.random.fold_in(key, 1)),
        },
        apply=lambda params, observations: actor.apply(params["policy"], observations),
        noise=actor.noise,
        act=actor.act,
    )
    return policy, critic


def _measure(batch: Batch) -> Metrics:
    return segment_metrics(batch) if isinstance(batch, Segment) else episode_metrics(episode_stats_of(batch))

"""Learning from segments: steps on shuffled minibatches of what environments have played.

A method learns from single steps, with an actor and a critic, or from pieces of h steps that compete; its settings say
so (`haepo_jax.methods.SegmentPlan`), and whether the environments carry on from update to update.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax import components
from haepo_jax.algorithms.agents import count_lanes, feature_shape_of, for_agents
from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, horizon_of, policy_for
from haepo_jax.algorithms.blocks import Judged, cut_into_units, in_units, make_blocks, make_samples, rows_of
from haepo_jax.algorithms.normalization import Normalizer
from haepo_jax.algorithms.outside import get_adaptation, get_objective
from haepo_jax.algorithms.reference import make_reference
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import (
    ExperimentConfig,
    TracedConfig,
    count_segment_steps,
    count_steps_of_update,
    get_method_settings,
    name_setting,
)
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError
from haepo_jax.methods import (
    Blocks,
    Evaluated,
    PullBack,
    Samples,
    SeenBatch,
    SegmentPlan,
    get_reference_rule,
    get_segment_plan,
)
from haepo_jax.networks import Policy, Value, make_torso, make_value, share_torso, unroll_log_probs
from haepo_jax.networks.recurrent import Carry, reset_carry
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.episode_stats import episode_metrics, episode_stats_of
from haepo_jax.rollouts.episodes import Trajectories, collect
from haepo_jax.rollouts.segments import Segment, collect_segment, segment_metrics, start
from haepo_jax.types import Metrics, Params

Batch = Segment | Trajectories


class _Steps(NamedTuple):
    """What a gradient step learns from; the leading axis holds what minibatches are made of.

    Where networks remember, that is the rows of the batch, each of them whole.
    """

    observations: jax.Array
    actions: jax.Array
    samples: Samples | Blocks
    resets: jax.Array | None = None
    """`[N, S]` boolean, True where a network begins anew; None where none remembers."""
    carries: tuple[Carry, Carry] = ((), ())
    """`[N, *C]` before the first step, of policy and value function."""


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of a method that sees segments.

    Policy and value function are networks of their own, of one shape. Environments that carry on are reset only when
    their episode ends; a value stands in for the rewards after a time limit. Metrics are means over the last epoch, of
    whole episodes with each minibatch counted by its steps.

    Args:
      config: the experiment.
      environment: where it plays.

    Raises:
      ConfigError: networks that remember, and minibatches that would cut a row.
    """
    own = get_method_settings(config)
    found = get_segment_plan(own)
    assert found is not None
    plan = found
    make_objective, adaptation = get_objective(config), get_adaptation(config)
    networks, value = _make_networks(config, environment, plan)
    normalizer = Normalizer(config, environment)
    policy = normalizer.wrap_policy(networks)
    critic = None if value is None else value.map_inputs(normalizer.see)
    remembers = policy.recurrence is not None
    if remembers:
        _check_rows(config, plan)
    rule = make_reference(get_reference_rule(own))
    rewards_of = make_rewards(config)
    horizon = horizon_of(config, environment)

    def optimizer(traced: TracedConfig) -> optax.GradientTransformation:
        return make_optimizer(traced.optimizer, config.num_updates * count_steps_of_update(config))

    def start_carries() -> tuple[Carry, Carry]:
        number = count_lanes(config, environment)
        return policy.start(number), () if critic is None else critic.start(number)

    def init(traced: TracedConfig, key: jax.Array) -> LearnerState:
        params, seen, running = networks.init(key), normalizer.init(), None
        if plan.carries_on:
            carry, value_carry = start_carries()
            running = start(
                environment,
                traced.env_params,
                jax.random.fold_in(key, 2),
                config.num_trajectories,
                carry=carry,
                value_carry=value_carry,
            )
        return LearnerState(
            params,
            optimizer(traced).init(params),
            rule.init(normalizer.bind(seen, params)),
            environments=running,
            adaptation=None if adaptation is None else adaptation.init(get_method_settings(traced), params),
            normalization=seen,
        )

    def collect_batch(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> Batch:
        if plan.carries_on:
            return collect_segment(
                environment,
                policy,
                normalizer.policy_params(learner),
                learner.environments,
                key,
                num_steps=count_segment_steps(config),
                horizon=horizon,
                env_params=traced.env_params,
                unrolled_steps=config.unrolled_steps or 1,
            )
        return collect(
            environment,
            policy,
            normalizer.policy_params(learner),
            key,
            num_trajectories=config.num_trajectories,
            horizon=horizon,
            env_params=traced.env_params,
            keeps_ends=plan.has_critic,
            unrolled_steps=config.unrolled_steps or 1,
        )

    def prepare(traced: TracedConfig, learner: LearnerState, batch: Batch) -> tuple[_Steps, Carry]:
        """The batch in units that are shuffled, with advantages and value targets from the learner's parameters.

        The carry is that of the value function after the batch.
        """
        params = normalizer.policy_params(learner)
        counted = normalizer.count_returns(traced, learner.normalization, batch)
        rows, values, next_values = rows_of(batch), None, None
        carries, resets = start_carries(), batch.resets
        if isinstance(batch, Segment):
            carries = learner.environments.carry, learner.environments.value_carry
        after = carries[1]
        if critic is not None:
            assert rows.next_observations is not None
            after, values, next_values = critic.unroll_with_next(
                params, carries[1], rows.observations, rows.next_observations, resets
            )
        reference = None
        if learner.reference is not None:
            seen = carries[0], rows.observations, rows.actions, resets
            _, reference = unroll_log_probs(policy, learner.reference, *seen)
        rewards = normalizer.scale_rewards(counted, rewards_of(traced, batch))
        judged = Judged(rewards, values, next_values, reference)
        numbers = traced.discount, get_method_settings(traced).gae_lambda
        samples: Samples | Blocks
        if plan.length is None:
            samples = make_samples(rows, judged, *numbers)._replace(where=batch.mask)
        else:
            samples = make_blocks(rows, judged, plan, *numbers)
        if remembers:
            return _Steps(rows.observations, rows.actions, samples, resets, carries), after
        observations, actions = cut_into_units((rows.observations, rows.actions), plan)
        return _Steps(observations, actions, in_units(samples, plan)), after

    def samples_of(steps: _Steps) -> Samples | Blocks:
        return in_units(steps.samples, plan) if remembers else steps.samples

    def evaluate(learner: LearnerState, params: Params, steps: _Steps) -> Evaluated:
        """What the networks make of steps with these parameters; of the learner they see what it normalises by."""
        bound = normalizer.bind(learner.normalization, params)
        if remembers:
            return cut_into_units(unroll(bound, steps), plan)
        shape = steps.samples.log_probs.shape
        observations, actions = (
            leaf.reshape(-1, *leaf.shape[len(shape) :]) for leaf in (steps.observations, steps.actions)
        )
        distribution = policy.apply(bound, observations)
        values = None if critic is None else critic.apply(bound, observations).reshape(shape)
        log_probs, entropies = distribution.log_prob(actions), distribution.entropy()
        return Evaluated(log_probs.reshape(shape), entropies.reshape(shape), values)

    def unroll(bound: Params, steps: _Steps) -> Evaluated:
        """What networks that remember make of whole rows `[N, S]`."""
        assert steps.resets is not None
        (carry, value_carry), values = steps.carries, None
        _, distribution = policy.unroll(bound, carry, steps.observations, steps.resets)
        if critic is not None:
            _, values = critic.unroll(bound, value_carry, steps.observations, steps.resets)
        return Evaluated(distribution.log_prob(steps.actions), distribution.entropy(), values)

    def loss_of_steps(settings: Any, learner: LearnerState, steps: _Steps) -> Loss:
        objective = make_objective(settings, samples_of(steps))
        return lambda params: objective(evaluate(learner, params, steps))

    def as_seen(learner: LearnerState, params: Params, steps: _Steps) -> SeenBatch:
        def differentiate() -> tuple[Evaluated, PullBack]:
            values, pull_back = jax.vjp(lambda params: evaluate(learner, params, steps), params)
            return values, lambda slopes: pull_back(slopes)[0]

        samples = samples_of(steps)
        return SeenBatch(samples, lambda settings: make_objective(settings, samples), differentiate)

    def batch_loss(traced: TracedConfig, learner: LearnerState, batch: Batch) -> Loss:
        return loss_of_steps(get_method_settings(traced), learner, prepare(traced, learner, batch)[0])

    def learn(
        traced: TracedConfig, learner: LearnerState, batch: Batch, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        steps, value_carry = prepare(traced, learner, batch)
        settings, adapted = get_method_settings(traced), learner.adaptation
        if adaptation is not None:
            settings, adapted = adaptation.begin(settings, adapted, as_seen(learner, learner.params, steps))

        def minibatch(
            carry: tuple[Params, Any], rows: jax.Array
        ) -> tuple[tuple[Params, Any], tuple[Metrics, jax.Array | None]]:
            chosen = jax.tree.map(lambda leaf: leaf[rows], steps)
            loss = loss_of_steps(settings, learner, chosen)
            params, optimizer_state, metrics = gradient_step(loss, optimizer(traced), *carry)
            # Of whole episodes, most steps up to the horizon may be none: minibatches differ in how many they hold.
            counted = None if plan.carries_on else samples_of(chosen).where
            return (params, optimizer_state), (metrics, None if counted is None else jnp.sum(counted))

        def epoch(
            carry: tuple[Params, Any], key: jax.Array
        ) -> tuple[tuple[Params, Any], tuple[Metrics, jax.Array | None]]:
            order = jax.random.permutation(key, steps.actions.shape[0])
            return jax.lax.scan(minibatch, carry, order.reshape(own.num_minibatches, -1))

        keys = jax.random.split(key, own.num_epochs)
        start_of_epochs = (learner.params, learner.optimizer_state)
        (params, optimizer_state), (series, num_steps) = jax.lax.scan(epoch, start_of_epochs, keys)
        shares = None if num_steps is None else num_steps[-1]
        metrics = {name: _average(values[-1], shares) for name, values in series.items()}
        if adaptation is not None:
            adapted = adaptation.end(settings, adapted, as_seen(learner, params, steps), metrics)
        counted = normalizer.count_returns(traced, learner.normalization, batch)
        seen = normalizer.count_observations(counted, batch)
        reference = rule.update(
            get_method_settings(traced),
            learner.reference,
            normalizer.policy_params(learner),
            normalizer.bind(seen, params),
            updates_done + 1,
        )
        running = None
        if isinstance(batch, Segment):
            if critic is not None and critic.recurrence is not None:
                value_carry = reset_carry(critic.recurrence.start(), value_carry, batch.done[:, -1])
            running = dataclasses.replace(batch.running, value_carry=value_carry)
        learner = LearnerState(
            params,
            optimizer_state,
            reference,
            environments=running,
            adaptation=adapted,
            normalization=seen,
        )
        return learner, metrics

    def measure(batch: Batch) -> Metrics:
        if isinstance(batch, Segment):
            return segment_metrics(batch, environment=environment)
        return episode_metrics(episode_stats_of(batch), environment=environment)

    return Algorithm(policy, normalizer.policy_params, init, collect_batch, batch_loss, learn, measure)


def _average(values: jax.Array, shares: jax.Array | None) -> jax.Array:
    """Averages what minibatches have found, `[B]`, each counted by its share, `[B]`; all alike without shares."""
    if shares is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(shares > 0, values * shares, 0)) / jnp.maximum(jnp.sum(shares), 1)


def _make_networks(
    config: ExperimentConfig, environment: Environment, plan: SegmentPlan
) -> tuple[Policy, Value | None]:
    """Makes the policy and, if one is asked for, the value function, which takes the parameters of both.

    These are then `{"policy": ..., "value": ...}`.
    """
    actor = policy_for(config, environment)
    if not plan.has_critic:
        return actor, None
    shape = feature_shape_of(config, environment, of_critic=True)
    torso = make_torso(config.policy, shape)
    # Of several agents it is given the features alone.
    critic = make_value(shape, make_torso=torso, mask_size=0 if environment.parts else environment.mask_size)
    policy = actor.map_inputs(lambda params, observations: (params["policy"], observations))
    if plan.shares_torso:
        value = for_agents(config, environment, share_torso(critic, torso), of_critic=True)
    else:
        critic = for_agents(config, environment, critic, of_critic=True)
        value = critic.map_inputs(lambda params, observations: (params["value"], observations))

    def init(key: jax.Array) -> Params:
        return {
            "policy": actor.init(jax.random.fold_in(key, 0)),
            "value": value.init(jax.random.fold_in(key, 1)),
        }

    return policy._replace(init=init), value


def _check_rows(config: ExperimentConfig, plan: SegmentPlan) -> None:
    """Refuses minibatches that whole rows do not fill evenly, or that leave a segment nothing to compete with."""
    number, name = get_method_settings(config).num_minibatches, f"config.{name_setting(config, 'num_minibatches')}"
    remembers = (
        f"config.policy.network {components.show_name(config.policy.network)} remembers, so that each minibatch"
    )
    if config.num_trajectories % number:
        raise ConfigError(
            f"{remembers} holds whole environments: {name} {number} must divide num_trajectories "
            f"{config.num_trajectories}."
        )
    if plan.by_time and config.num_trajectories == number:
        raise ConfigError(
            f"{remembers} holds whole environments: {name} {number} leaves one to each, whose segments of a time have "
            f"none to compete with; it may be at most {number // 2}."
        )

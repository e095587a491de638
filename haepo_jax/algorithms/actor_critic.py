"""Learning from segments: an actor and a critic, steps on shuffled minibatches of the segments' steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, horizon_of, policy_for
from haepo_jax.algorithms.normalization import Normalizer
from haepo_jax.algorithms.outside import get_objective
from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import (
    ExperimentConfig,
    TracedConfig,
    count_segment_steps,
    count_steps_of_update,
    get_method_settings,
)
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError
from haepo_jax.losses import generalized_advantages
from haepo_jax.methods import Evaluated, Samples
from haepo_jax.networks import Policy, make_torso, make_value
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.segments import Segment, collect_segment, segment_metrics, start
from haepo_jax.types import Metrics, Params


class _Steps(NamedTuple):
    """What a gradient step learns from; the leading axis holds the steps of a (mini)batch."""

    observations: jax.Array
    actions: jax.Array
    samples: Samples


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """Makes the algorithm of a method that sees segments.

    Policy and value function are networks of their own, of one shape. Environments are reset only when their
    episode ends; a value stands in for the rewards after a time limit. Metrics are means over the last epoch.

    Args:
      config: the experiment.
      environment: where it plays.
    """
    make_objective, own = get_objective(config), get_method_settings(config)
    actor = policy_for(config, environment)
    if actor.recurrence is not None:
        raise ConfigError(
            f"config.policy.network {config.policy.network} remembers, which config.algorithm {config.algorithm} does "
            "not know yet; take a method of whole episodes, such as haepo."
        )
    shape = environment.feature_shape
    critic = make_value(shape, make_torso=make_torso(config.policy, shape), mask_size=environment.mask_size)
    normalizer = Normalizer(config, environment)
    networks = Policy(
        init=lambda key: {
            "policy": actor.init(jax.random.fold_in(key, 0)),
            "value": critic.init(jax.random.fold_in(key, 1)),
        },
        apply=lambda params, observations: actor.apply(params["policy"], observations),
        noise=actor.noise,
        act=actor.act,
    )
    policy = normalizer.wrap_policy(networks)
    rewards_of = make_rewards(config)
    horizon = horizon_of(config, environment)
    num_steps = count_segment_steps(config)

    def optimizer(traced: TracedConfig) -> optax.GradientTransformation:
        return make_optimizer(traced.optimizer, config.num_updates * count_steps_of_update(config))

    def init(traced: TracedConfig, key: jax.Array) -> LearnerState:
        params = networks.init(key)
        running = start(environment, traced.env_params, jax.random.fold_in(key, 2), config.num_trajectories)
        return LearnerState(
            params, optimizer(traced).init(params), environments=running, normalization=normalizer.init()
        )

    def collect(traced: TracedConfig, learner: LearnerState, key: jax.Array) -> Segment:
        return collect_segment(
            environment,
            policy,
            normalizer.policy_params(learner),
            learner.environments,
            key,
            num_steps=num_steps,
            horizon=horizon,
            env_params=traced.env_params,
        )

    def value_of(given: Params, observations: jax.Array) -> jax.Array:
        params, seen = normalizer.see(given, observations)
        return critic.apply(params["value"], seen)

    def prepare(traced: TracedConfig, learner: LearnerState, segment: Segment) -> _Steps:
        """The segment's steps in one row, with advantages and value targets from the learner's parameters."""
        params = normalizer.policy_params(learner)
        seen = normalizer.count_returns(traced, learner.normalization, segment)
        values = value_of(params, segment.observations)
        advantages = generalized_advantages(
            normalizer.scale_rewards(seen, rewards_of(traced, segment)),
            values,
            value_of(params, segment.next_observations),
            terminated=segment.terminated,
            done=segment.done,
            discount=traced.discount,
            gae_lambda=get_method_settings(traced).gae_lambda,
        )
        samples = Samples(segment.log_probs, values, advantages, advantages + values)
        steps = _Steps(segment.observations, segment.actions, samples)
        return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), steps)

    def loss_of_steps(traced: TracedConfig, learner: LearnerState, steps: _Steps) -> Loss:
        objective = make_objective(get_method_settings(traced), steps.samples)

        def loss(params: Params) -> tuple[jax.Array, Metrics]:
            bound = normalizer.bind(learner.normalization, params)
            distribution = policy.apply(bound, steps.observations)
            values = value_of(bound, steps.observations)
            return objective(Evaluated(distribution.log_prob(steps.actions), distribution.entropy(), values))

        return loss

    def batch_loss(traced: TracedConfig, learner: LearnerState, segment: Segment) -> Loss:
        return loss_of_steps(traced, learner, prepare(traced, learner, segment))

    def learn(
        traced: TracedConfig, learner: LearnerState, segment: Segment, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        del updates_done
        steps = prepare(traced, learner, segment)

        def minibatch(carry: tuple[Params, Any], rows: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            chosen = jax.tree.map(lambda leaf: leaf[rows], steps)
            loss = loss_of_steps(traced, learner, chosen)
            params, optimizer_state, metrics = gradient_step(loss, optimizer(traced), *carry)
            return (params, optimizer_state), metrics

        def epoch(carry: tuple[Params, Any], key: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            order = jax.random.permutation(key, steps.samples.values.size)
            return jax.lax.scan(minibatch, carry, order.reshape(own.num_minibatches, -1))

        keys = jax.random.split(key, own.num_epochs)
        (params, optimizer_state), metrics = jax.lax.scan(epoch, (learner.params, learner.optimizer_state), keys)
        seen = normalizer.count_returns(traced, learner.normalization, segment)
        learner = LearnerState(
            params,
            optimizer_state,
            environments=segment.running,
            normalization=normalizer.count_observations(seen, segment),
        )
        return learner, {name: jnp.mean(values[-1]) for name, values in metrics.items()}

    return Algorithm(policy, normalizer.policy_params, init, collect, batch_loss, learn, segment_metrics)

"""PPO: an actor and a critic, clipped steps on shuffled minibatches of segments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.algorithms.base import Algorithm, LearnerState, Loss, gradient_step, horizon_of, policy_for
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import clipped_surrogate_loss, clipped_value_loss, generalized_advantages
from haepo_jax.networks import Policy, make_torso, make_value
from haepo_jax.objectives import scalars
from haepo_jax.optimizer import make_optimizer
from haepo_jax.rollouts.segments import Segment, collect_segment, segment_metrics, start
from haepo_jax.types import Metrics, Params


class _Samples(NamedTuple):
    """What a gradient step learns from; the leading axis holds the steps of a (mini)batch."""

    observations: jax.Array
    actions: jax.Array
    log_probs: jax.Array
    values: jax.Array
    advantages: jax.Array
    targets: jax.Array


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """PPO for this config and environment.

    Policy and value function are networks of their own, of one shape. Environments are reset only when their
    episode ends; a value stands in for the rewards after a time limit. Advantages are normalised in each
    minibatch. Metrics, means over the last epoch: `policy_loss`, `value_loss`, `clip_fraction`, `approx_kl`.

    Source: Schulman et al. (2017), "Proximal policy optimization algorithms".
    """
    actor = policy_for(config, environment)
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
    horizon = horizon_of(config, environment)
    num_epochs, num_minibatches = config.ppo.num_epochs, config.ppo.num_minibatches
    num_steps = config.ppo.num_steps

    def optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
        return make_optimizer(config.optimizer, config.num_updates * num_epochs * num_minibatches)

    def init(config: ExperimentConfig, key: jax.Array) -> LearnerState:
        params = policy.init(key)
        running = start(environment, config.env_params, jax.random.fold_in(key, 2), config.num_trajectories)
        return LearnerState(params, optimizer(config).init(params), environments=running)

    def collect(config: ExperimentConfig, learner: LearnerState, key: jax.Array) -> Segment:
        return collect_segment(
            environment,
            policy,
            learner.params,
            learner.environments,
            key,
            num_steps=num_steps,
            horizon=horizon,
            env_params=config.env_params,
        )

    def prepare(config: ExperimentConfig, params: Params, segment: Segment) -> _Samples:
        """The segment's steps in one row, with advantages and value targets from these parameters."""
        values = critic.apply(params["value"], segment.observations)
        advantages = generalized_advantages(
            segment.rewards,
            values,
            critic.apply(params["value"], segment.next_observations),
            terminated=segment.terminated,
            done=segment.done,
            discount=config.discount,
            gae_lambda=config.ppo.gae_lambda,
        )
        steps = (segment.observations, segment.actions, segment.log_probs, values, advantages, advantages + values)
        return _Samples(*(leaf.reshape((-1, *leaf.shape[2:])) for leaf in steps))

    def sample_loss(config: ExperimentConfig, samples: _Samples) -> Loss:
        ppo = config.ppo
        centred = samples.advantages - samples.advantages.mean()
        advantages = centred / (samples.advantages.std() + 1e-8)

        def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
            distribution = policy.apply(params, samples.observations)
            policy_loss, terms = clipped_surrogate_loss(
                distribution.log_prob(samples.actions), samples.log_probs, advantages, clip_epsilon=ppo.clip_epsilon
            )
            value_loss, _ = clipped_value_loss(
                critic.apply(params["value"], samples.observations),
                samples.values,
                samples.targets,
                clip_epsilon=ppo.value_clip_epsilon,
            )
            entropy = distribution.entropy().mean()
            metrics = {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "clip_fraction": terms.clip_fraction,
                "approx_kl": terms.approx_kl,
            }
            return policy_loss + ppo.value_coef * value_loss - ppo.entropy_coef * entropy, scalars(metrics)

        return loss_fn

    def batch_loss(config: ExperimentConfig, learner: LearnerState, segment: Segment) -> Loss:
        return sample_loss(config, prepare(config, learner.params, segment))

    def learn(
        config: ExperimentConfig, learner: LearnerState, segment: Segment, updates_done: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        del updates_done
        samples = prepare(config, learner.params, segment)

        def minibatch(carry: tuple[Params, Any], rows: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            chosen = jax.tree.map(lambda leaf: leaf[rows], samples)
            params, optimizer_state, metrics = gradient_step(sample_loss(config, chosen), optimizer(config), *carry)
            return (params, optimizer_state), metrics

        def epoch(carry: tuple[Params, Any], key: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            order = jax.random.permutation(key, samples.values.size)
            return jax.lax.scan(minibatch, carry, order.reshape(num_minibatches, -1))

        keys = jax.random.split(key, num_epochs)
        (params, optimizer_state), metrics = jax.lax.scan(epoch, (learner.params, learner.optimizer_state), keys)
        learner = LearnerState(params, optimizer_state, environments=segment.running)
        return learner, {name: jnp.mean(values[-1]) for name, values in metrics.items()}

    return Algorithm(policy, config.num_trajectories * num_steps, init, collect, batch_loss, learn, segment_metrics)

"""Causes of divergence, as far as they can be known: the first number not finite, and the setting behind it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from haepo_jax.config import ExperimentConfig, carries_on, describe_settings_place, traced_settings
from haepo_jax.environments import Box
from haepo_jax.population.member import make_environment, make_member

LEARNING_RATE = "lower --config.optimizer.learning_rate"
_LARGE_LOG_STD = 40.0  # exp(-87) is 0 in float32; well before, a log-probability and its slopes are beyond it


class FirstUpdate(NamedTuple):
    """Says what was finite in the first update of a member, before any step changed its parameters."""

    returns: bool
    log_probs: bool
    loss: bool
    gradient: bool


def repeat_first_update(config: ExperimentConfig, seed: int, settings: Mapping[str, Any]) -> FirstUpdate:
    """Plays the first batch of a member again, and takes its loss and gradient at the first policy.

    Args:
      config: of the member's group.
      seed: of the member.
      settings: its swept settings by dotted name.
    """
    functions = make_member(config)
    table = {
        name: jnp.asarray(settings.get(name, value), jnp.int32 if isinstance(value, int) else jnp.float32)
        for name, value in traced_settings(config).items()
    }

    @jax.jit
    def measure(key: jax.Array) -> tuple[jax.Array, ...]:
        state = functions.init(key, table)
        batch = functions.collect(state)
        measured = functions.algorithm.measure(batch)
        loss = functions.algorithm.loss(functions.trace(state), state.learner, batch)
        (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(state.learner.params)
        policy = functions.algorithm.policy
        params = functions.algorithm.policy_params(state.learner)
        distribution = policy.apply(params, jnp.zeros((1, *functions.environment.observation_shape)))
        log_prob = distribution.log_prob(policy.act(distribution, policy.noise(key, (1,))))
        returned = measured["episode_return"]
        # Segments have none before an episode has ended.
        in_segments = carries_on(config)
        return (
            ~jnp.isinf(returned) if in_segments else jnp.isfinite(returned),
            jnp.isfinite(log_prob).all(),
            jnp.isfinite(value),
            jnp.isfinite(optax.tree.norm(gradient)),
        )

    return FirstUpdate(*(bool(np.asarray(flag)) for flag in measure(jax.random.key(seed))))


def find_cause(
    config: ExperimentConfig, seed: int, settings: Mapping[str, Any], diverged_at: int, last_return: float
) -> str:
    """Finds why a member diverged and says what to do, to follow "Every member diverged: ".

    Args:
      config: of the member's group.
      seed: of the member.
      settings: its swept settings by dotted name.
      diverged_at: the update that was not finite.
      last_return: the mean return of its episodes.
    """
    if diverged_at > 0 and math.isinf(last_return):
        return f"the returns of update {diverged_at} are infinite; look at the rewards of {config.env}"
    if diverged_at > 0:
        return LEARNING_RATE
    found = repeat_first_update(config, seed, settings)
    before = "before any step changed the policy"
    if not found.returns:
        return f"the returns of the first episodes are not finite, {before}; look at the rewards of {config.env}"
    if not found.log_probs:
        log_std = config.policy.initial_log_std
        is_far = isinstance(make_environment(config).action_space, Box) and abs(log_std) > _LARGE_LOG_STD
        remedy = f"bring config.policy.initial_log_std, {log_std:g}, near 0" if is_far else "look at config.policy"
        return f"log-probabilities of the first policy are beyond float32, {before}; {remedy}"
    if not found.loss:
        where = f"the rewards of {config.env} and {_own_settings(config)}"
        return f"the loss of the first policy is not finite, {before}; look at {where}"
    if not found.gradient:
        where = f"config.policy and {_own_settings(config)}"
        return f"the gradient at the first policy is not finite, {before}; look at {where}"
    return LEARNING_RATE


def _own_settings(config: ExperimentConfig) -> str:
    return f"the settings {describe_settings_place(config)}"

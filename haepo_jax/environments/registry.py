"""gymnax environments behind the interface of this package: flat float32 observations, one action scale."""

import functools
import math
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from gymnax.registration import registered_envs

from haepo_jax.environments.interface import Box, Discrete, Environment, Step
from haepo_jax.errors import ConfigError, choose


def environment_names() -> tuple[str, ...]:
    """The ids that `make` accepts."""
    return tuple(registered_envs)


@functools.cache
def make(name: str) -> Environment:
    """The environment with this id; the same object at every call, so that compiled programs are shared.

    Args:
      name: a gymnax id, such as `CartPole-v1`.

    Returns:
      The `Environment`.

    Raises:
      ConfigError: an unknown id, or an environment whose observations or actions are not supported.

    Example:
      >>> make("CartPole-v1").observation_size
      4
    """
    choose("env", name, environment_names())
    try:
        env, params = gymnax.make(name)
    except Exception as error:
        raise ConfigError(f"env {name} could not be made: {error}") from error
    observe, observation_size = _observer(name, env.observation_space(params))
    act, action_space = _actor(name, env.action_space(params))

    def reset(key: jax.Array) -> tuple[Any, jax.Array]:
        observation, state = env.reset_env(key, params)
        return jax.tree.map(_strong, state), observe(observation)

    def step(key: jax.Array, state: Any, action: jax.Array) -> Step:
        observation, next_state, reward, terminated, _ = env.step_env(key, state, act(action), params)
        done = jnp.logical_or(terminated, env.is_truncated(next_state, params))
        # Same dtypes and shapes in as out, so that a loop can carry the state.
        next_state = jax.tree.map(
            lambda new, old: jnp.reshape(jnp.asarray(new, old.dtype), old.shape), next_state, state
        )
        return Step(
            next_state,
            observe(observation),
            jnp.reshape(jnp.asarray(reward, jnp.float32), ()),
            jnp.reshape(jnp.asarray(done, bool), ()),
        )

    return Environment(name, observation_size, action_space, int(params.max_steps_in_episode), reset, step)


def _strong(leaf: Any) -> jax.Array:
    """Strips the weak type of Python numbers in a fresh state, which would make a second call recompile."""
    return jnp.asarray(leaf, jnp.asarray(leaf).dtype)


def _observer(name: str, space: Any) -> tuple[Any, int]:
    """A function from raw observations to flat float32 vectors, and their size."""
    if isinstance(space, spaces.Discrete):
        return lambda raw: jax.nn.one_hot(raw, space.n, dtype=jnp.float32), int(space.n)
    if isinstance(space, spaces.Box):
        return lambda raw: jnp.ravel(jnp.asarray(raw, jnp.float32)), math.prod(space.shape)
    raise ConfigError(f"env {name} has observations of kind {type(space).__name__}; Box and Discrete are supported.")


def _actor(name: str, space: Any) -> tuple[Any, Discrete | Box]:
    """A function from a policy's actions to the environment's, and the space that the policy acts in."""
    if isinstance(space, spaces.Discrete):
        return lambda action: action, Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
        high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
        if np.all(np.isfinite(low)) and np.all(np.isfinite(high)):
            centre, half = (high + low) / 2, (high - low) / 2
        else:
            centre, half = np.zeros(space.shape, np.float32), np.ones(space.shape, np.float32)

        def act(action: jax.Array) -> jax.Array:
            return jnp.clip(centre + half * jnp.reshape(action, space.shape), low, high)

        return act, Box(math.prod(space.shape))
    raise ConfigError(f"env {name} has actions of kind {type(space).__name__}; Box and Discrete are supported.")

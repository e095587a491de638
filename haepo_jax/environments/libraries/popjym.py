"""POPGym in JAX (Lu et al. 2023, after Morad et al. 2023): tasks that need memory."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import popjym
from jax.typing import ArrayLike
from popjym import registration

from haepo_jax.environments.interface import ActionSpace, Box, Discrete, Environment, Step
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.environments.observations import make_observer

_LIMITS = ("max_steps_in_episode", "max_episode_length", "episode_length")
"""Attributes that hold the most steps of an episode."""
_NEVER = 2**30


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(registration.REGISTERED_ENVS)


def find(name: str) -> Callable[..., Any]:
    """Returns what makes an environment, with a `discount` as of the gymnax that the library was written for.

    That of today's gymnax does not know its `is_terminal`, so that steps of some environments would fail.
    """

    def make_popjym(**arguments: Any) -> Any:
        env, _ = popjym.make(name, **arguments)
        env.discount = lambda state, params: jnp.where(env.is_terminal(state, params), 0.0, 1.0)
        return env

    return make_popjym


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`.

    An episode that lasts as long as its deck of cards ends with the task. One that is cut at `max_steps_in_episode`
    does not.
    """
    params = env.default_params
    space, convert = _read_actions(env.action_space(params))
    unlimited = copy.copy(env)
    is_limited = hasattr(env, _LIMITS[0])
    if is_limited:
        unlimited.max_steps_in_episode = _NEVER
    limit = next((getattr(env, attribute) for attribute in _LIMITS if hasattr(env, attribute)), None)

    shown, begun = jax.eval_shape(lambda key: env.reset_env(key, params), key_shape())
    observer, packing = make_observer(shown), StatePacking.of(begun)

    def reset(_: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        observation, state = env.reset_env(key, params)
        return packing.pack(state), observer(observation)

    def step(_: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        observation, after, reward, done, *_ = env.step_env(key, packing.unpack(state), convert(action), params)
        terminated = unlimited.is_terminal(after, params) if is_limited else done
        return Step(
            packing.pack(after),
            observer(observation),
            jnp.reshape(jnp.asarray(reward, jnp.float32), ()),
            jnp.reshape(jnp.asarray(done, bool), ()),
            jnp.reshape(jnp.asarray(terminated, bool), ()),
            {},
        )

    return Environment(
        name,
        observer.observation_shape,
        space,
        None if limit is None else math.ceil(limit),
        {},
        (),
        reset,
        step,
    )


def _read_actions(space: Any) -> tuple[ActionSpace, Callable[[jax.Array], jax.Array]]:
    if hasattr(space, "n"):
        return Discrete(int(space.n)), lambda action: action
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))

    def scale(action: jax.Array) -> jax.Array:
        return (high + low) / 2 + (high - low) / 2 * jnp.clip(jnp.reshape(action, space.shape), -1, 1)

    return Box(math.prod(space.shape)), scale

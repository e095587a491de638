"""Craftax: Crafter and a roguelike in JAX (Matthews et al. 2024), by its environments that do not reset themselves."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from craftax.craftax_env import make_craftax_env_from_name
from jax.typing import ArrayLike

from haepo_jax.environments.interface import Discrete, Environment, Step
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.environments.observations import make_observer

_NAMES = ("Craftax-Classic-Pixels-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Pixels-v1", "Craftax-Symbolic-v1")
_ACHIEVEMENTS = "Achievements/"  # begins their names in `info`
_NEVER = 2**31 - 1


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return _NAMES


def find(name: str) -> Callable[[], Any]:
    """Returns what makes an environment; it takes no arguments."""

    def make_craftax() -> Any:
        return make_craftax_env_from_name(name, auto_reset=False)

    return make_craftax


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`. Its info metrics are the achievements of an ended episode, each 100 or 0."""
    defaults = env.default_params
    numbers = {
        field.name: value
        for field in dataclasses.fields(defaults)
        if type(value := getattr(defaults, field.name)) in (int, float) and field.name != "max_timesteps"
    }

    def complete(params: Mapping[str, ArrayLike]) -> Any:
        return defaults.replace(**{key: jnp.asarray(value, type(numbers[key])) for key, value in params.items()})

    shown, begun = jax.eval_shape(lambda key: env.reset_env(key, defaults), key_shape())
    observer, packing = make_observer(shown), StatePacking.of(begun)
    info = jax.eval_shape(lambda key, state: env.step_env(key, state, 0, defaults)[4], key_shape(), begun)
    achievements = {
        f"achievement_{key.removeprefix(_ACHIEVEMENTS)}": key for key in info if key.startswith(_ACHIEVEMENTS)
    }

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        observation, state = env.reset_env(key, complete(params))
        return packing.pack(state), observer(observation)

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        full = complete(params)
        observation, after, reward, done, info = env.step_env(key, packing.unpack(state), action, full)
        return Step(
            packing.pack(after),
            observer(observation),
            jnp.asarray(reward, jnp.float32),
            jnp.asarray(done, bool),
            # Its end is one for tasks and time together.
            jnp.asarray(env.is_terminal(after, full.replace(max_timesteps=_NEVER)), bool),
            {metric: jnp.asarray(info[key], jnp.float32) for metric, key in achievements.items()},
        )

    return Environment(
        name,
        observer.observation_shape,
        Discrete(int(env.action_space(defaults).n)),
        int(defaults.max_timesteps),
        numbers,
        tuple(achievements),
        reset,
        step,
        render=lambda params, states: _draw(env, [packing.unpack(state) for state in states]),
    )


def _draw(env: Any, states: Sequence[Any]) -> Iterator[Any]:
    if "classic" in type(env).__module__:
        from craftax.craftax_classic.constants import BLOCK_PIXEL_SIZE_IMG
        from craftax.craftax_classic.renderer import make_craftax_pixel_renderer
    else:
        from craftax.craftax.constants import BLOCK_PIXEL_SIZE_IMG
        from craftax.craftax.renderer import make_craftax_pixel_renderer
    render = jax.jit(make_craftax_pixel_renderer(BLOCK_PIXEL_SIZE_IMG))
    for state in states:
        yield render(state) / 255

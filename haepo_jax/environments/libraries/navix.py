"""NAVIX: MiniGrid in JAX (Pignatelli et al. 2024), without its resets."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import navix
from jax.typing import ArrayLike
from navix.rendering.cache import RenderingCache

from haepo_jax.environments.interface import Discrete, Environment, Step
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.environments.observations import make_observer
from haepo_jax.errors import choose

_PIXELS = (navix.observations.rgb, navix.observations.rgb_first_person)


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(sorted(navix.registry()))


def find(name: str) -> Callable[..., Any]:
    """Returns what makes an environment: of `navix.make`'s arguments, `observation_fn` by its name."""

    def make_navix(observation_fn: str | None = None, **arguments: Any) -> Any:
        if observation_fn is not None:
            known = [key for key, _ in inspect.getmembers(navix.observations, inspect.isfunction) if _observes(key)]
            choose("config.env_kwargs.observation_fn", observation_fn, known)
            arguments["observation_fn"] = getattr(navix.observations, observation_fn)
        return navix.make(name, disable_autoreset=True, **arguments)

    return make_navix


def _observes(name: str) -> bool:
    """Whether a function of `navix.observations` is one that an environment takes."""
    kind = getattr(navix.observations, name)
    return list(inspect.signature(kind).parameters) == ["state"] and kind.__module__ == navix.observations.__name__


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`. Its states leave out the drawn background, but where observations are drawn on it."""
    draws = env.observation_fn in _PIXELS

    def hide(timestep: Any) -> Any:
        return timestep if draws else timestep.replace(state=timestep.state.replace(cache=None))

    def show(timestep: Any) -> Any:
        return timestep if draws else with_background(timestep)

    def with_background(timestep: Any) -> Any:
        state = timestep.state
        return timestep.replace(state=state.replace(cache=RenderingCache.init(state.grid)))

    begun = jax.eval_shape(env.reset, key_shape())
    observer, packing = make_observer(begun.observation), StatePacking.of(jax.eval_shape(hide, begun))

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        timestep = env.reset(key)
        return packing.pack(hide(timestep)), observer(timestep.observation)

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, action: jax.Array) -> Step:
        after = env.step(show(packing.unpack(state)), action)
        return Step(
            packing.pack(hide(after)),
            observer(after.observation),
            jnp.asarray(after.reward, jnp.float32),
            after.is_done(),
            after.is_termination(),
            {},
        )

    def render(params: Mapping[str, ArrayLike], states: Sequence[Any]) -> Iterator[Any]:
        draw = jax.jit(lambda arrays: navix.observations.rgb(with_background(packing.unpack(arrays)).state))
        return map(draw, states)

    return Environment(
        name,
        observer.observation_shape,
        Discrete(int(env.action_space.n)),
        int(env.max_steps),
        {},
        (),
        reset,
        step,
        render=render,
    )

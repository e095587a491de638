"""Brax (Freeman et al. 2021): rigid bodies, without the wrappers that count steps and reset."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from brax import envs

from haepo_jax.environments.interface import Environment
from haepo_jax.environments.libraries.physics import adapt_physics

EPISODE_LENGTH = 1000
"""Steps of an episode, as of `brax.envs.create`."""


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(sorted(envs._envs))


def find(name: str) -> Callable[..., Any]:
    """Returns the class of an environment: its arguments are `backend` and those of the task."""
    return envs._envs[name]


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`. Its info metrics are those parts of the reward that it names."""

    def render(states: Sequence[Any]) -> Iterator[Any]:
        from brax.io import image

        yield from image.render_array(env.sys, [state.pipeline_state for state in states])

    return adapt_physics(name, env, EPISODE_LENGTH, 1, lambda state: state.obs, render)

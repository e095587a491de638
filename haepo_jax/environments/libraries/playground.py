"""MuJoCo Playground (Zakka et al. 2025), without the wrappers that count steps and reset."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from mujoco_playground import registry

from haepo_jax.environments.interface import Environment
from haepo_jax.environments.libraries.physics import adapt_physics
from haepo_jax.errors import ConfigError, suggestion


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(sorted(registry.ALL_ENVS))


def find(name: str) -> Callable[..., Any]:
    """Returns what makes an environment; its arguments are the settings of the environment's own config.

    Where there is no GPU, `impl` is `jax`, as the library's default runs on GPUs alone.
    """

    def make_playground(**arguments: Any) -> Any:
        config = registry.get_default_config(name)
        known = _settings(config.to_dict())
        for key in arguments:
            if key not in known:
                raise ConfigError(f"config.env_kwargs.{key} is not a setting of {name}{suggestion(key, known)}")
        if "impl" in config and jax.default_backend() != "gpu":
            arguments = {"impl": "jax"} | arguments
        config.update_from_flattened_dict(arguments)
        env = registry.load(name, config=config)
        env.config_of_episodes = config
        return env

    return make_playground


def _settings(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of all settings, those of a group with the group's before them."""
    found = []
    for key, value in config.items():
        found += _settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`. Where a critic would see more than a policy, all see what a policy may."""
    config = env.config_of_episodes

    def render(states: Sequence[Any]) -> Iterator[Any]:
        yield from env.render(list(states))

    return adapt_physics(name, env, int(config.episode_length), int(config.action_repeat), _observe, render)


def _observe(state: Any) -> Any:
    return state.obs["state"] if isinstance(state.obs, Mapping) and "state" in state.obs else state.obs

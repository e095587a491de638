"""The environments that can be had: their ids and sizes, library by library."""

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

from haepo_jax.config.libraries import LIBRARIES
from haepo_jax.environments.interface import ActionSpace, Box, Discrete
from haepo_jax.environments.libraries import load_library
from haepo_jax.environments.registry import environment_names, make
from haepo_jax.errors import ConfigError

BUILT_IN = "gymnax"
"""Names gymnax's environments and our own, which go by their id alone."""


class Task(NamedTuple):
    """An environment by the sizes that a policy meets."""

    name: str
    """As a config names it."""
    observation: str
    """Its shape, such as 4 or 10x10x4."""
    actions: str
    """Such as `2 choices` or `6 real`."""
    agents: int
    max_steps: int | None
    """The environment's own limit; None where it has none."""


class Refused(NamedTuple):
    """An environment that cannot be made here."""

    name: str
    reason: str
    """A sentence."""


def list_libraries() -> tuple[str, ...]:
    """Lists the names of libraries, whether they are installed or not."""
    return (BUILT_IN, *LIBRARIES)


def is_installed(library: str) -> bool:
    """Whether a library can be imported."""
    return library == BUILT_IN or importlib.util.find_spec(LIBRARIES[library].package) is not None


def describe_tasks(library: str) -> Iterator[Task | Refused]:
    """Makes each environment of a library that is installed, and yields its sizes.

    Raises:
      ConfigError: the library cannot be imported.
    """
    for name in _list_names(library):
        try:
            environment = make(name)
        except ConfigError as error:
            yield Refused(name, str(error))
        else:
            yield Task(
                name,
                format_shape(environment.observation_shape),
                format_actions(environment.action_space),
                environment.num_agents,
                environment.max_steps,
            )


def format_shape(shape: tuple[int, ...]) -> str:
    """Formats the shape of an observation.

    Example:
      >>> format_shape((10, 10, 4)), format_shape(())
      ('10x10x4', '1')
    """
    return "x".join(map(str, shape)) or "1"


def format_actions(space: ActionSpace) -> str:
    """Formats what there is to choose.

    Example:
      >>> from haepo_jax.environments import MultiDiscrete
      >>> format_actions(Discrete(2)), format_actions(Box(6)), format_actions(MultiDiscrete((3, 2)))
      ('2 choices', '6 real', '3x2 choices')
    """
    if isinstance(space, Box):
        return f"{space.size} real"
    return f"{space.n if isinstance(space, Discrete) else format_shape(space.nvec)} choices"


def _list_names(library: str) -> tuple[str, ...]:
    if library == BUILT_IN:
        return tuple(sorted(environment_names(), key=str.lower))
    return tuple(f"{library}:{name}" for name in load_library(library, f"{library}:").names())

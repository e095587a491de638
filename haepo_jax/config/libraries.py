"""Libraries of environments that a config names by prefix: `navix:Navix-DoorKey-8x8-v0`."""

from typing import Any, NamedTuple

from haepo_jax.components import check_name
from haepo_jax.errors import ConfigError


class Library(NamedTuple):
    """A library of environments, installed only where it is asked for."""

    package: str
    """What is imported."""
    install: str
    """What installs it, after `pip install`."""


LIBRARIES = {
    "brax": Library("brax", "'haepo_jax[brax]'"),
    "craftax": Library("craftax", "'haepo_jax[craftax]'"),
    "jaxmarl": Library("jaxmarl", "'haepo_jax[jaxmarl]'"),
    "jumanji": Library("jumanji", "'haepo_jax[jumanji]'"),
    "navix": Library("navix", "'haepo_jax[navix]'"),
    "pgx": Library("pgx", "'haepo_jax[pgx]'"),
    "playground": Library("mujoco_playground", "'haepo_jax[playground]'"),
    "popjym": Library("popjym", "git+https://github.com/FLAIROx/popjym"),
}
"""By prefix."""


def split_name(name: Any) -> tuple[str, str] | None:
    """Splits the name of a library's environment into prefix and id; None for any other name.

    Example:
      >>> split_name("navix:Navix-DoorKey-8x8-v0")
      ('navix', 'Navix-DoorKey-8x8-v0')
      >>> split_name("my_project.maze:Maze"), split_name("CartPole-v1")
      (None, None)
    """
    prefix, colon, own = name.partition(":") if isinstance(name, str) else ("", "", "")
    return (prefix, own) if colon and prefix in LIBRARIES else None


def check_environment_name(path: str, value: Any) -> str:
    """Checks how an environment is named; it is not made yet.

    Args:
      path: the setting.
      value: what it is set to.

    Raises:
      ConfigError: it is neither an id, nor of a library, nor `package.module:attribute`.
    """
    if split_name(value) is not None:
        return value
    try:
        return check_name(path, value)
    except ConfigError as error:
        if not isinstance(value, str):
            raise
        raise ConfigError(f"{str(error)[:-1]}, or as an id after a library: {list_prefixes()}.") from None


def list_prefixes() -> str:
    """Lists the prefixes of the libraries, for a sentence."""
    return ", ".join(f"{prefix}:" for prefix in LIBRARIES)

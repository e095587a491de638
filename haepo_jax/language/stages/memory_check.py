"""A check of memory: what a run would hold is compared with what is there, before it is made."""

import jax

from haepo_jax.errors import ConfigError
from haepo_jax.population.memory import device_bytes
from haepo_jax.runtime.host import in_words


def check_room(needed: int, what: str, remedy: str) -> None:
    """Refuses what all devices together cannot hold.

    Args:
      needed: bytes, on all devices together.
      what: takes them.
      remedy: what to do instead.

    Raises:
      ConfigError: there are fewer.
    """
    there = device_bytes() * jax.local_device_count()
    if needed > there:
        raise ConfigError(f"{what} would take {in_words(needed)}, and there are {in_words(there)}; {remedy}.")

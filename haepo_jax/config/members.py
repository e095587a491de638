"""The members of a population: seeds x swept settings."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from haepo_jax.config import ExperimentConfig, sweep_points
from haepo_jax.errors import ConfigError
from haepo_jax.runtime import host

_BYTES = 1024  # of a member in the lists that a run holds of all of them, and writes


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of a population."""

    index: int
    seed: int
    settings: dict[str, Any]
    """The swept settings by dotted name."""
    group: str = "all"
    """The members of a group share one compiled program."""


def make_members(config: ExperimentConfig) -> tuple[Member, ...]:
    """Every swept combination with every seed; the seeds of a combination lie together.

    Example:
      >>> [member.seed for member in make_members(ExperimentConfig(num_seeds=2, seed=7))]
      [7, 8]

    Raises:
      ConfigError: they are more than this machine can list.
    """
    number_of_members(config)
    pairs = [(settings, config.seed + k) for settings in sweep_points(config) for k in range(config.num_seeds)]
    return tuple(Member(index, seed, settings) for index, (settings, seed) in enumerate(pairs))


def number_of_members(config: ExperimentConfig) -> int:
    """Counts the members of an experiment, without listing them.

    Raises:
      ConfigError: they are more than this machine can list.
    """
    settings = math.prod(map(len, config.sweep.values()))
    check_number(settings, config.num_seeds)
    return settings * config.num_seeds


def check_number(num_settings: int, num_seeds: int) -> None:
    """Refuses more members than this machine can list.

    Raises:
      ConfigError: they take more than half of its memory.
    """
    needed, there = num_settings * num_seeds * _BYTES, host.memory_bytes()
    if needed > there // 2:
        settings = (
            f"{num_settings:,} settings with {num_seeds:,} seeds each" if num_settings > 1 else "config.num_seeds"
        )
        raise ConfigError(
            f"{settings} makes {num_settings * num_seeds:,} members, whose list alone takes about "
            f"{host.in_words(needed)}, and this machine has {host.in_words(there)} of memory; take fewer seeds or "
            "settings."
        )


def text_settings(members: Sequence[Member]) -> set[str]:
    """The swept settings whose values are not all numbers."""
    return {
        name
        for member in members
        for name, value in member.settings.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    }

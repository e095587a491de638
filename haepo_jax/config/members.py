"""The members of a population: seeds x swept settings."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from haepo_jax.config import ExperimentConfig, checked_settings, pbt, sweep_points
from haepo_jax.config.plain_values import plain
from haepo_jax.config.settings import MAX_SEED
from haepo_jax.errors import ConfigError, quoted
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
    population: int | None = None
    """Within its group, that whose members it may copy; None without population-based training."""

    def to_json(self) -> dict[str, Any]:
        """Makes its entry in `members.json`."""
        entry = dataclasses.asdict(self)
        if self.population is None:
            del entry["population"]
        return entry


def make_members(config: ExperimentConfig) -> tuple[Member, ...]:
    """Every swept combination with every seed; the seeds of a combination lie together.

    Example:
      >>> [member.seed for member in make_members(ExperimentConfig(num_seeds=2, seed=7))]
      [7, 8]

    Raises:
      ConfigError: they are more than this machine can list.
    """
    number_of_members(config)
    return list_members(config, list(sweep_points(config)))


def list_members(
    config: ExperimentConfig,
    points: Sequence[Mapping[str, Any]],
    seeds: Sequence[int] | None = None,
    *,
    group: str = "all",
    first: int = 0,
) -> tuple[Member, ...]:
    """Lists each point with each seed, in the order of `pbt.arrange`.

    Args:
      config: the experiment.
      points: swept settings by dotted name.
      seeds: by default those of the config.
      group: of the members.
      first: index of the first one.

    Raises:
      ConfigError: seeds that cannot be divided into populations.
    """
    seeds = range(config.seed, config.seed + config.num_seeds) if seeds is None else seeds
    return tuple(
        Member(
            first + k,
            seeds[seed],
            {**points[point], **pbt.draw_settings(config, points[point], point, seeds[seed])},
            group,
            population,
        )
        for k, (point, seed, population) in enumerate(pbt.arrange(config, len(points), len(seeds)))
    )


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


def checked_settings_list(config: ExperimentConfig, settings: Any) -> list[dict[str, float | int]]:
    """Checks a list of settings of one program, each as `checked_settings` does.

    Raises:
      ConfigError: no list, an empty one, or one that holds what is not allowed.
    """
    if not _is_list(settings):
        raise ConfigError(
            f"settings must be a list of settings such as [{{'haepo.kl_coef': 0.1}}], got {quoted(settings)}."
        )
    listed = list(settings)
    if not listed:
        raise ConfigError("settings must hold at least one setting; [{}] runs the config as it stands.")
    for k, values in enumerate(listed):
        if not isinstance(values, Mapping | ml_collections.ConfigDict):
            raise ConfigError(f"settings[{k}] must map settings to their values, got {quoted(values)}.")
    return [checked_settings(config, values) for values in listed]


def checked_seeds(seeds: Any) -> list[int]:
    """Checks a list of seeds.

    Raises:
      ConfigError: no list, an empty one, or one that holds what is no seed.

    Example:
      >>> checked_seeds(range(3))
      [0, 1, 2]
    """
    if not _is_list(seeds):
        raise ConfigError(f"seeds must be a list of whole numbers such as [0, 1], got {quoted(seeds)}.")
    checked = plain(list(seeds), "seeds")
    for seed in checked:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"seeds must be whole numbers from 0 to {MAX_SEED}, got {quoted(seed)}.")
    if not checked:
        raise ConfigError("seeds must hold at least one whole number.")
    return checked


def _is_list(values: Any) -> bool:
    """Whether it holds values in an order, and is no text or mapping."""
    if isinstance(values, str | bytes | Mapping | ml_collections.ConfigDict):
        return False
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0  # an array of no axis is a number


def text_settings(members: Sequence[Member]) -> set[str]:
    """The swept settings whose values are not all numbers."""
    return {
        name
        for member in members
        for name, value in member.settings.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    }

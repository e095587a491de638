"""The members of a population: seeds x swept settings."""

import dataclasses
from typing import Any

from haepo_jax.config import ExperimentConfig, sweep_points

MEMBERS, TRAJECTORIES = "members", "trajectories"
"""The axes of the mesh of devices: blocks of members, and the shares of one block's trajectories."""


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
    """
    pairs = [(settings, config.seed + k) for settings in sweep_points(config) for k in range(config.num_seeds)]
    return tuple(Member(index, seed, settings) for index, (settings, seed) in enumerate(pairs))

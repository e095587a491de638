"""How the members of a run lie on devices: as its first attempt has placed them, which decides their bits."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from haepo_jax.config.sweep import Sweep
from haepo_jax.errors import ConfigError
from haepo_jax.population.planning import BY_DEVICE, place_group
from haepo_jax.population.population import Population
from haepo_jax.runs.files import read_placement


class Placement(NamedTuple):
    """How members lie on devices."""

    members_per_device: int | None = None
    """None: as many as let all members of a group run at once, on the devices of the first attempt."""
    trajectory_devices: int | None = None
    """None: as at the first attempt, and 1 then."""


def place_groups(workdir: Path, sweep: Sweep, placement: Placement) -> tuple[list[Population], dict[str, Any]]:
    """Makes the population of each group, with as many members on a device as at the first attempt, and its memory.

    Args:
      workdir: the run folder, in which nothing is changed.
      sweep: its groups.
      placement: what this attempt asks for.

    Returns:
      The populations, and what `placement.json` is to hold of them.

    Raises:
      ConfigError: `placement.json` is lost or damaged, or the attempt asks for another placement than the first did.
    """
    noted: dict[str, Any] = {"members_per_device": {}, "trajectory_devices": None} | {name: {} for name in BY_DEVICE}
    if os.path.lexists(workdir / "placement.json"):
        noted = read_placement(workdir, [group.name for group in sweep.groups])
    elif (workdir / "checkpoints").is_dir() and any((workdir / "checkpoints").iterdir()):
        raise ConfigError(
            f"{workdir / 'placement.json'} is missing, which says how members lie on devices and so decides the bits "
            "of their numbers; put it back, or use another --workdir."
        )
    spread = _keep_noted("trajectory_devices", placement.trajectory_devices, noted["trajectory_devices"]) or 1
    populations = []
    for group in sweep.groups:
        members_per_device = _keep_noted(
            "members_per_device", placement.members_per_device, noted["members_per_device"].get(group.name)
        )
        chosen = {name: noted[name][group.name] for name in BY_DEVICE if group.name in noted[name]}
        populations.append(place_group(group, members_per_device, spread, chosen))
    pairs = list(zip(sweep.groups, populations, strict=True))
    return populations, {
        "members_per_device": {group.name: population.members_per_device for group, population in pairs},
        "trajectory_devices": spread,
    } | {name: {group.name: getattr(population.config, name) for group, population in pairs} for name in BY_DEVICE}


def _keep_noted(flag: str, given: int | None, noted: int | None) -> int | None:
    """Returns what a run was started with, or what is given to one that begins."""
    if None not in (given, noted) and given != noted:
        raise ConfigError(
            f"--{flag}={given} differs from the {noted} that this run was started with, which decides the bits of its "
            "numbers; leave it out, or use another --workdir."
        )
    return noted or given

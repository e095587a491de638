"""The trained members of a run, read from its checkpoints to be looked at."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from haepo_jax.errors import ConfigError
from haepo_jax.population.member import MemberState
from haepo_jax.population.population import Population, make_population
from haepo_jax.runs.component_files import load_sweep, report_changes
from haepo_jax.runs.files import StrPath, read_placement
from haepo_jax.runs.restore import find_newest
from haepo_jax.runs.waves import iterate_waves


def load_states(workdir: StrPath) -> Iterator[tuple[Population, MemberState, int]]:
    """Loads the newest good state of each wave of a run; changes nothing in the folder.

    Yields:
      The population of a wave, its state on the devices, and the updates that it has done.


    Raises:
      ConfigError: the folder holds no run, or no good checkpoint.
    """
    workdir = Path(workdir)
    sweep = load_sweep(workdir)
    report_changes(workdir, sweep)
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"--workdir {workdir} holds no checkpoint yet; train first.")
    placement = read_placement(workdir, [group.name for group in sweep.groups])
    found_any = False
    for group in sweep.groups:
        population = make_population(
            dataclasses.replace(group.config, memory=placement["memory"][group.name]),
            members=group.members,
            members_per_device=placement["members_per_device"][group.name],
        )
        for wave in iterate_waves(group.members, population.capacity, workdir / "checkpoints"):
            own = population.with_members(wave.members)
            found = find_newest(workdir, wave.sources, own.template(), wave.indices)
            if found is not None:
                found_any = True
                yield own, own.resumed(found.tree), found.update
    if not found_any:
        raise ConfigError(f"--workdir {workdir} holds no good checkpoint; train first.")

"""Plans of a sweep before it starts: groups, waves, and memory by the compiler's account."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from haepo_jax.config.sweep import Group, Sweep
from haepo_jax.parallel import MEMBERS
from haepo_jax.population import sizes
from haepo_jax.population.layout import check_placement
from haepo_jax.population.memory import device_bytes
from haepo_jax.population.population import Population, make_population

BY_DEVICE = ("memory", "piece_rows", "unrolled_steps")
"""The settings that are chosen by the device where they are left open, and so decide the bits of a run there."""
NOTHING_CHOSEN: Mapping[str, Any] = MappingProxyType({})
_SHARE = 0.9  # of a device's memory; the rest is the runtime's
_MANY_TIMES = 30  # no program was seen that needs more than so many times its batch and state


class GroupPlan(NamedTuple):
    """A group of a sweep, with its place on the devices."""

    group: Group
    members_per_device: int
    waves: int
    bytes_per_device: int | None
    """Arguments, outputs and temporaries of a chunk of updates, less what is donated; None where the compiler finds
    that a device does not hold them."""


def plan(sweep: Sweep, *, members_per_device: int | None, trajectory_devices: int) -> list[GroupPlan]:
    """Places each group and compiles its program, and runs nothing.

    Args:
      sweep: what is to run.
      members_per_device: see `make_population`; by default what fits.
      trajectory_devices: see `make_population`.
    """
    check_placement(members_per_device, trajectory_devices)
    for group in sweep.groups:
        sizes.check(
            group.config,
            len(group.members),
            members_per_device=members_per_device,
            trajectory_devices=trajectory_devices,
        )
    plans = []
    for group in sweep.groups:
        population = place_group(group, members_per_device, trajectory_devices)
        waves = -(-len(group.members) // population.members_at_once(group.members))
        plans.append(GroupPlan(group, population.members_per_device, waves, _bytes_per_device(population)))
    return plans


def place_group(
    group: Group, members_per_device: int | None, trajectory_devices: int, chosen: Mapping[str, Any] = NOTHING_CHOSEN
) -> Population:
    """Makes the population of a group, with as many members on a device as memory holds if that is left open.

    Args:
      group: of a sweep.
      members_per_device: see `make_population`.
      trajectory_devices: see `make_population`.
      chosen: in place of what the config leaves to the device, `BY_DEVICE` as a run that was stopped had them.
    """
    config = dataclasses.replace(group.config, **chosen)
    population = make_population(
        config,
        members=group.members,
        members_per_device=members_per_device,
        trajectory_devices=trajectory_devices,
    )
    if members_per_device is not None or _is_small(population):
        return population
    there = int(_SHARE * device_bytes())
    while population.members_per_device > sizes.LEAST:
        needed = _bytes_per_device(population)
        if needed is not None and needed <= there:
            break
        share = 0.5 if needed is None else there / needed
        population = make_population(
            config,
            members=group.members,
            members_per_device=max(sizes.LEAST, int(population.members_per_device * share)),
            trajectory_devices=trajectory_devices,
        )
    return population


def _is_small(population: Population) -> bool:
    """Says whether memory holds it by far, so that the compiler need not be asked."""
    batch = population.traced_update().batch
    size = _count_bytes(population.template()) + population.capacity * _count_bytes(batch)
    if population.config.evaluate_every is not None:
        size *= 1 + population.config.evaluate_episodes // population.config.num_trajectories
    size += population.capacity * sizes.extra_bytes(population.config, population.functions.environment)
    return _MANY_TIMES * size / population.mesh.shape[MEMBERS] < device_bytes()


def _count_bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _bytes_per_device(population: Population) -> int | None:
    """Computes the memory that a device needs; None where the compiler finds that it has less."""
    try:
        compiled = population.compiled()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )

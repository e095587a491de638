"""The least that an experiment needs, by shapes alone: known before anything is compiled or made.

Only what can never fit is refused by it. Whether the rest fits, and how many members at once, the compiler says
(`planning`).
"""

import math
import shutil
from pathlib import Path
from typing import NamedTuple

from haepo_jax.algorithms.agents import count_lanes
from haepo_jax.algorithms.base import horizon_of, round_bounds_of
from haepo_jax.components import is_outside
from haepo_jax.config import (
    ExperimentConfig,
    carries_on,
    count_segment_steps,
    count_steps_of_update,
    find_need_of_steps,
    get_method,
    get_method_settings,
    name_setting,
)
from haepo_jax.environments import Environment
from haepo_jax.errors import ConfigError
from haepo_jax.methods import Sees, get_history, get_reference_rule, get_segment_plan
from haepo_jax.population.member import make_environment
from haepo_jax.population.memory import device_bytes, step_bytes
from haepo_jax.population.network_sizes import NetworkSizes, network_sizes
from haepo_jax.population.self_play import POOL
from haepo_jax.rollouts.rounds import RoundBounds
from haepo_jax.runtime.host import in_words

LEAST = 2  # members of a device: one alone is another program
_FLOAT = 4
_METRICS = 3  # at least, of each gradient step
_ADAM = 2  # running means of the size of the parameters
_KEPT = 1.5  # of the two checkpoints of a member at least; compression takes a part away
_MANY_STEPS = 10**9  # of an update, of all members: a quarter of an hour at a million steps a second


class _Need(NamedTuple):
    """Memory that a device needs at least."""

    num_bytes: int
    of: str
    """What it is for, in words."""
    setting: str
    """What to lower where it is too much."""


def check(
    config: ExperimentConfig,
    num_members: int,
    *,
    members_per_device: int | None = None,
    trajectory_devices: int | None = None,
    workdir: Path | None = None,
) -> None:
    """Refuses an experiment that this machine cannot hold, whatever is done in waves.

    Args:
      config: the experiment.
      num_members: how many members it has.
      members_per_device: how many of them a device must hold at once; as few as possible where it is left open.
      trajectory_devices: devices that share the trajectories of their members; 1 by default.
      workdir: where a new run is to write its checkpoints.

    Raises:
      ConfigError: it needs more memory than a device has, or more disk than is free; an environment that does not
        exist.
    """
    environment = make_environment(config)
    networks = network_sizes(config, environment)
    needs = _needs(config, environment, networks, members_per_device or LEAST, trajectory_devices or 1)
    needed, there = sum(need.num_bytes for need in needs), device_bytes()
    if needed > there:
        largest = max(needs)
        raise ConfigError(
            f"A device would need at least {in_words(needed)} of memory, {in_words(largest.num_bytes)} of it for "
            f"{largest.of}, and it has {in_words(there)}; lower {largest.setting}."
        )
    if workdir is not None and not (workdir / "config.json").exists():
        _check_disk(workdir, num_members, _state_bytes(config, environment, networks))


def describe_long_updates(config: ExperimentConfig, num_members: int) -> str | None:
    """Says how much an update plays, where that takes long; None where it does not."""
    steps = num_members * batch_steps(config, make_environment(config))
    if steps < _MANY_STEPS:
        return None
    return (
        f"An update plays up to {steps:,} steps ({num_members:,} members), which takes "
        f"{steps / 3600e6:,.1f} hours at a million a second."
    )


def _needs(
    config: ExperimentConfig,
    environment: Environment,
    networks: NetworkSizes,
    members_per_device: int,
    trajectory_devices: int,
) -> list[_Need]:
    """Lists what a device needs while its members train."""
    method = get_method(config)
    observation = math.prod(environment.observation_shape)
    played_together = min(members_per_device, LEAST)  # the others may have their turn after them
    trajectories = -(-count_lanes(config, environment) // trajectory_devices)
    activations = max(played_together * max(networks.widths), sum(networks.widths))
    episodes = trajectories * (played_together * observation + activations) * _FLOAT
    if config.memory in ("store", "remat") or find_need_of_steps(config) is not None:
        steps = trajectories * lane_steps(config, environment)
        episodes += played_together * steps * step_bytes(environment)
        if config.memory == "store" and method.sees is not Sees.SEGMENTS:
            episodes += steps * sum(networks.widths) * _FLOAT
    needs = [
        _Need(
            members_per_device * _state_bytes(config, environment, networks) + networks.params * _FLOAT,
            f"the parameters and optimisers of {members_per_device:,} members",
            networks.setting if members_per_device <= LEAST else "--members_per_device",
        ),
        _Need(
            episodes,
            "the episodes of an update",
            ("" if config.min_batch_steps is None else "config.min_batch_steps, ")
            + "config.num_trajectories or the horizon",
        ),
        _Need(
            count_steps_of_update(config) * _METRICS * _FLOAT,
            "the metrics of its gradient steps",
            f"config.{name_setting(config, 'num_epochs')}",
        ),
    ]
    if config.evaluate_every is not None:
        held_out = config.evaluate_episodes * (observation + max(networks.widths)) * _FLOAT
        needs.append(_Need(members_per_device * held_out, "held-out episodes", "config.evaluate_episodes"))
    if method.extra_memory is not None:
        extra = extra_bytes(config, environment) // trajectory_devices
        needs.append(_Need(extra, method.extra_memory.of, _name_competitors(config)))
    return needs


def extra_bytes(config: ExperimentConfig, environment: Environment) -> int:
    """Computes the least bytes that a member's objective takes beside the batch, where that grows faster than it."""
    extra, bounds = get_method(config).extra_memory, _bounds(config, environment)
    if extra is None:
        return 0
    rounds = 1 if bounds is None else bounds.max_rounds
    return rounds * extra.bytes(_count_competitors(config, environment))


def _count_competitors(config: ExperimentConfig, environment: Environment) -> int:
    """Counts the trajectories that compete, or the places for segments in what an objective sees at once."""
    settings, method = get_method_settings(config), get_method(config)
    plan = get_segment_plan(settings)
    if plan is None or plan.length is None:
        return config.num_trajectories
    steps = lane_steps(config, environment)
    length = min(plan.length, steps)
    places = count_lanes(config, environment) * -(-steps // length) * (length if plan.carries_on else 1)
    sees_all = method.adaptation is not None and method.adaptation(settings) is not None
    return places if sees_all else places // settings.num_minibatches


def _name_competitors(config: ExperimentConfig) -> str:
    """Names the settings that decide how many compete."""
    if get_method(config).sees is not Sees.SEGMENTS:
        return "config.num_trajectories"
    if not carries_on(config):
        return "config.num_trajectories or the horizon"
    asks_for_more = count_segment_steps(config) > get_method_settings(config).num_steps
    steps = "min_batch_steps" if asks_for_more else name_setting(config, "num_steps")
    return f"config.num_trajectories or config.{steps}"


def batch_steps(config: ExperimentConfig, environment: Environment) -> int:
    """Computes the most steps that a member plays in an update; of several agents those of each count."""
    bounds = _bounds(config, environment)
    lanes = count_lanes(config, environment)
    return lanes * lane_steps(config, environment) if bounds is None else bounds.most_env_steps


def lane_steps(config: ExperimentConfig, environment: Environment) -> int:
    """Computes the most steps of an update in each of its lanes, steps that wait included."""
    if carries_on(config):
        return count_segment_steps(config)
    bounds = _bounds(config, environment)
    return horizon_of(config, environment) if bounds is None else bounds.max_time


def _bounds(config: ExperimentConfig, environment: Environment) -> RoundBounds | None:
    """Of the rounds in which complete episodes are played; None where there are no rounds."""
    return None if get_method(config).sees is Sees.SEGMENTS else round_bounds_of(config, environment)


def _state_bytes(config: ExperimentConfig, environment: Environment, networks: NetworkSizes) -> int:
    """Computes the least bytes of a member between updates."""
    steps = count_lanes(config, environment) * lane_steps(config, environment)
    history = get_history(get_method_settings(config)) * steps
    moments = 0 if is_outside(config.optimizer.transform) else _ADAM
    copies = (
        1 + moments + (get_reference_rule(get_method_settings(config)) != "none") + (config.evaluate_every is not None)
    )
    if config.self_play.opponents == POOL:
        copies += config.self_play.pool_size
    return copies * networks.params * _FLOAT + history * step_bytes(environment)


def _check_disk(workdir: Path, num_members: int, state_bytes: int) -> None:
    place = next((folder for folder in (workdir, *workdir.parents) if folder.exists()), None)
    if place is None:
        return
    disk = shutil.disk_usage(place)
    if not disk.total:  # no disk, such as /proc: that nothing can be written is said where it is tried
        return
    needed, free = math.ceil(_KEPT * num_members * state_bytes), disk.free
    if needed > free:
        raise ConfigError(
            f"The checkpoints of {num_members:,} members would need at least {in_words(needed)} of disk, and "
            f"{in_words(free)} are free at {place}; take fewer seeds or settings."
        )


def check_episodes(config: ExperimentConfig, environment: Environment, episodes: int, members: int) -> None:
    """Refuses to play more episodes at once than a device holds.

    Args:
      config: the experiment.
      environment: where they are played.
      episodes: of each member.
      members: that play at the same time on a device.

    Raises:
      ConfigError: they need more memory than a device has.
    """
    of_each = math.prod(environment.observation_shape) + max(network_sizes(config, environment).widths)
    of_each *= environment.num_agents
    needed = members * episodes * of_each * _FLOAT
    there = device_bytes()
    if needed > there:
        raise ConfigError(
            f"--episodes={episodes} would need at least {in_words(needed)} of memory on each device, and it has "
            f"{in_words(there)}; more than {there * episodes // needed:,} never fit."
        )

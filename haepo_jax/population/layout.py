"""How members lie on devices. It is decided here alone; the code of a member never sees it.

Each device holds `members_per_device` members and runs them without a word to the others, so that the bits of a member
depend on that number and not on how many devices or processes there are. On a device members are vmapped. On CPU those
with large batches go in tiles instead: a few members play together and then learn one by one, which runs the gradient
three times as fast there, as each then stops at its own longest episode and fits a cache, and a tile's batch is all
that is kept.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from haepo_jax.config.checks import check_count
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.parallel import MEMBERS, TRAJECTORIES
from haepo_jax.population.empty_constants import with_empty_constants_inside

OVER_MEMBERS, EVERYWHERE = PartitionSpec(MEMBERS), PartitionSpec()

_LEAST_MEMBERS = 2  # of a device: one alone is another, smaller program, whose bits and compile time stand apart
_LARGE_BATCH = 2048  # steps; measured on CPU: 512 ran faster vmapped, 8000 one by one
_TILE_EPISODES = 256  # that play together in a tile; measured on CPU: with fewer, play slows down


@dataclasses.dataclass(frozen=True)
class Layout:
    """Places for members on a mesh of devices; those that no member takes are padding."""

    mesh: Mesh
    """`[groups, devices of a group]`. Those of a group hold the same members and share their trajectories."""
    members_per_device: int
    tile: int | None
    """The most members that play together and then learn one by one; None where all of a device's are vmapped."""

    @property
    def capacity(self) -> int:
        """The most members that run at once, padding included."""
        return self.members_per_device * self.mesh.shape[MEMBERS]

    @property
    def trajectory_devices(self) -> int:
        """Devices that share the trajectories of their members."""
        return self.mesh.shape[TRAJECTORIES]

    @property
    def played_together(self) -> int:
        """The most members of a device whose batches are held at once."""
        return self.members_per_device if self.tile is None else self.tile

    @property
    def sharding(self) -> NamedSharding:
        """Of arrays `[capacity, ...]`."""
        return NamedSharding(self.mesh, OVER_MEMBERS)

    def over_devices(self, function: Callable, in_specs: Any, out_specs: Any) -> Wrapped:
        """Spreads a function of one device's members over all devices, and jits it; arguments as of `spread`."""
        return jax.jit(self.spread(function, in_specs, out_specs))

    def spread(self, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
        """Spreads a function of one device's members over all devices.

        Args:
          function: of arrays `[members_per_device, ...]`. Where devices share trajectories, the compiler divides them.
          in_specs: see `jax.shard_map`.
          out_specs: see `jax.shard_map`.
        """
        return jax.shard_map(
            with_empty_constants_inside(function),
            mesh=self.mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            check_vma=False,
            axis_names={MEMBERS} if self.trajectory_devices > 1 else {MEMBERS, TRAJECTORIES},
        )

    def share_trajectories(self, batch: Any) -> Any:
        """Asks the compiler to divide a batch, arrays `[members_per_device, M, ...]`, by its trajectories."""
        shares = PartitionSpec(None, TRAJECTORIES)
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, shares), batch)

    def place(self, rows: np.ndarray) -> jax.Array:
        """Puts rows `[members, ...]` on their devices, the last one repeated as padding: `[capacity, ...]`."""
        padded = np.concatenate([rows, np.repeat(rows[-1:], self.capacity - len(rows), axis=0)])
        return jax.make_array_from_callback(padded.shape, self.sharding, lambda index: padded[index])

    def is_member(self, num_members: int) -> jax.Array:
        """`[capacity]` boolean on the devices, False for padding."""
        rows = np.arange(self.capacity) < num_members
        return jax.make_array_from_callback(rows.shape, self.sharding, lambda index: rows[index])

    def with_places(self, shapes: Any) -> Any:
        """Adds the places of arrays `[capacity, ...]` to their shapes."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding), shapes)

    @property
    def is_here(self) -> np.ndarray:
        """`[capacity]` boolean, whether the first copy of each place is on a device of this process."""
        first = self.mesh.devices.reshape(self.mesh.shape[MEMBERS], -1)[:, 0]
        return np.repeat([device.process_index == jax.process_index() for device in first], self.members_per_device)


def rows_here(values: jax.Array, axis: int) -> np.ndarray:
    """Copies what devices of this process hold of an array whose `axis` lies over members, padding included."""
    shards = sorted(
        (shard for shard in values.addressable_shards if shard.replica_id == 0),
        key=lambda shard: shard.index[axis].start or 0,
    )
    if not shards:
        return np.empty(tuple(0 if k == axis else size for k, size in enumerate(values.shape)), values.dtype)
    return np.concatenate([np.asarray(shard.data) for shard in shards], axis=axis)


def make_layout(
    num_members: int,
    devices: Sequence[jax.Device],
    *,
    members_per_device: int | None,
    trajectory_devices: int,
    num_trajectories: int,
    batch_steps: int,
) -> Layout:
    """Decides how members lie on devices.

    Args:
      num_members: how many there are.
      devices: where they live. Neighbours, which talk fastest, share trajectories.
      members_per_device: members of each device; by default as many as let all run at once.
      trajectory_devices: devices that share the trajectories of their members.
      num_trajectories: M, of a member.
      batch_steps: the most steps of a member's batch.

    Raises:
      ConfigError: devices or trajectories that cannot be divided so.
    """
    _check_devices(devices)
    mesh = _make_mesh(devices, trajectory_devices, num_trajectories)
    if members_per_device is None:
        members_per_device = max(_LEAST_MEMBERS, -(-num_members // mesh.shape[MEMBERS]))
    if trajectory_devices > 1 or not goes_in_tiles(devices[0], batch_steps):
        return Layout(mesh, members_per_device, None)
    tile = max(_LEAST_MEMBERS, _TILE_EPISODES // num_trajectories)
    return Layout(mesh, members_per_device, min(members_per_device, tile))


def goes_in_tiles(device: jax.Device, batch_steps: int) -> bool:
    """Whether members whose batches have so many steps are better not all vmapped on this device."""
    return device.platform == "cpu" and batch_steps >= _LARGE_BATCH


def check_placement(members_per_device: Any, trajectory_devices: Any) -> None:
    """Refuses what is no number of members or devices; None leaves either open.

    Raises:
      ConfigError: it is no whole number of at least 1.
    """
    if members_per_device is not None:
        check_count("members_per_device", members_per_device)
    if trajectory_devices is not None:
        check_count("trajectory_devices", trajectory_devices)


def _check_devices(devices: Any) -> None:
    are_devices = isinstance(devices, Sequence | np.ndarray) and all(isinstance(d, jax.Device) for d in devices)
    if not are_devices or not len(devices):
        raise ConfigError(f"devices must be one device or more, such as jax.devices(), got {quoted(devices)}.")


def _make_mesh(devices: Sequence[jax.Device], trajectory_devices: int, num_trajectories: int) -> Mesh:
    if len(devices) % trajectory_devices:
        raise ConfigError(f"--trajectory_devices={trajectory_devices} does not divide the {len(devices)} devices.")
    if num_trajectories % trajectory_devices:
        raise ConfigError(
            f"--trajectory_devices={trajectory_devices} does not divide config.num_trajectories {num_trajectories}."
        )
    grid = np.asarray(devices).reshape(-1, trajectory_devices)
    return Mesh(grid, (MEMBERS, TRAJECTORIES), axis_types=(AxisType.Auto, AxisType.Auto))

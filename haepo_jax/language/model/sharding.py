"""The layout of a language-model run on its devices: batches over all of them, parameters over the `fsdp` axis."""

import sys
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from haepo_jax.errors import ConfigError

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int, rows: int) -> Mesh:
    """Makes a mesh of as many devices as can share a batch evenly, and says so where these are not all.

    Args:
      fsdp: how many devices share one copy of the parameters.
      rows: of a batch.

    Raises:
      ConfigError: no number of devices that holds whole copies divides the batch.
    """
    devices = jax.devices()
    count = count_usable_devices(len(devices), fsdp, rows)
    if count < len(devices):
        print(
            f"Uses {count} of {len(devices)} devices, as more cannot share a batch of {rows} evenly.", file=sys.stderr
        )
    shape, kinds = (count // fsdp, fsdp), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=kinds, devices=devices[:count])


def count_usable_devices(devices: int, fsdp: int, rows: int) -> int:
    """Computes the largest number of devices that divides a batch and holds whole copies of the parameters.

    Args:
      devices: how many there are.
      fsdp: how many of them share one copy.
      rows: of the batch.

    Raises:
      ConfigError: there is none.

    Example:
      >>> count_usable_devices(12, 1, 32), count_usable_devices(12, 4, 32), count_usable_devices(6, 1, 36)
      (8, 8, 6)
    """
    count = next((count for count in range(devices - devices % fsdp, 0, -fsdp) if rows % count == 0), None)
    if count is None:
        raise ConfigError(
            f"config.mesh.fsdp {fsdp} does not fit: of the {devices} devices a multiple of it must share a batch of "
            f"{rows} evenly."
        )
    return count


def shard_rows(mesh: Mesh) -> NamedSharding:
    """Shards batches: their leading axis lies over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Replicates: every device holds the whole."""
    return NamedSharding(mesh, PartitionSpec())


def shard_parameters(mesh: Mesh, tree: Any) -> Any:
    """Shards parameters and what has their shapes: each array's longest axis that can be over `fsdp`, else whole.

    Args:
      mesh: the devices.
      tree: arrays, or their shapes (`jax.ShapeDtypeStruct`).

    Returns:
      A tree of shardings.
    """

    def place(leaf: Any) -> NamedSharding:
        sizes = [size if size % mesh.shape[FSDP] == 0 and size >= mesh.shape[FSDP] else 0 for size in leaf.shape]
        if mesh.shape[FSDP] == 1 or not any(sizes):
            return replicated(mesh)
        axis = sizes.index(max(sizes))
        return NamedSharding(mesh, PartitionSpec(*(FSDP if index == axis else None for index in range(leaf.ndim))))

    return jax.tree.map(place, tree)

"""How a language-model run lies on its devices: batches over all of them, parameters over the `fsdp` axis."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from haepo_jax.errors import ConfigError

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int) -> Mesh:
    """A mesh of all devices, `fsdp` of which share one copy of the parameters.

    Raises:
      ConfigError: the devices cannot be divided so.
    """
    devices = jax.device_count()
    if devices % fsdp:
        raise ConfigError(f"config.mesh.fsdp {fsdp} does not divide the {devices} devices.")
    return jax.make_mesh((devices // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def over_rows(mesh: Mesh) -> NamedSharding:
    """For batches: the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """For what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def for_parameters(mesh: Mesh, tree: Any) -> Any:
    """For parameters and what has their shapes: each array's longest axis that can be over `fsdp`, else whole.

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

"""Checkpoints of a population: orbax files, with a checksum for each member.

A flipped bit in stored arrays is restored without complaint by the storage layer, so every checkpoint holds
a CRC-32 of each member's data, and a checkpoint is only trusted when all of them hold.
"""

import functools
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

_KEEP = 3


class Checkpoint(NamedTuple):
    """A population between two updates, as NumPy arrays with a leading axis of members."""

    state: Any
    """A flax struct with `updates_done` `[members]` among its arrays."""
    env_steps: np.ndarray
    """`[members]` int64, environment steps so far."""


class DamagedCheckpoint(NamedTuple):
    """A checkpoint that was passed over."""

    update: int
    reason: str


class Checkpointer:
    """The `checkpoints/` of a run folder; a step of it is named after the number of updates done."""

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Opens the folder; to write, makes it if needed and clears what an interrupted save left there.

        Args:
          directory: the folder.
          read_only: change nothing in it, as another process may be writing there.
        """
        self._directory = directory.absolute()
        self._read_only = read_only
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEEP, enable_async_checkpointing=False, cleanup_tmp_directories=True
            )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, whole or not at all, and drops those older than the newest three."""
        arrays = _named_leaves(checkpoint)
        arrays["checksums"] = _checksums(arrays)
        update = int(checkpoint.state.updates_done[0])
        self._manager.save(update, args=ocp.args.StandardSave(arrays))

    def restore(self, template: Checkpoint) -> tuple[Checkpoint | None, list[DamagedCheckpoint]]:
        """Reads the newest good checkpoint.

        Args:
          template: a checkpoint of the same population, for structure, shapes and dtypes.

        Returns:
          The checkpoint, or None when there is no good one; and the newer ones that were damaged, which are
          moved to `checkpoints_damaged/` beside the folder, unless it was opened to read only.
        """
        damaged: list[DamagedCheckpoint] = []
        for update in self._steps():
            try:
                return self._read(update, template), damaged
            except Exception as error:  # orbax raises bare Exceptions on damaged data
                damaged.append(DamagedCheckpoint(update, " ".join(str(error).split())[:200]))
                if not self._read_only:
                    self._set_aside(update)
        return None, damaged

    def close(self) -> None:
        """Ends orbax's threads."""
        self._manager.close()

    def _steps(self) -> Iterator[int]:
        yield from sorted((int(path.name) for path in self._directory.iterdir() if path.name.isdigit()), reverse=True)

    def _read(self, update: int, template: Checkpoint) -> Checkpoint:
        arrays = dict(self._manager.restore(update, args=ocp.args.StandardRestore()))
        checksums = arrays.pop("checksums")
        expected = _named_leaves(template)
        if arrays.keys() != expected.keys():
            raise ValueError(f"its arrays differ: {sorted(arrays.keys() ^ expected.keys())}")
        for name, leaf in expected.items():
            if (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
                raise ValueError(f"{name} is {arrays[name].dtype}{arrays[name].shape}, not {leaf.dtype}{leaf.shape}")
        wrong = np.flatnonzero(_checksums(arrays) != checksums)
        if wrong.size:
            raise ValueError(f"the checksum does not hold for member {wrong[0]}")
        leaves = [np.asarray(arrays[name]) for name in expected]
        checkpoint = jax.tree.unflatten(jax.tree.structure(template), leaves)
        if np.any(checkpoint.state.updates_done != update):
            raise ValueError(f"it holds update {checkpoint.state.updates_done[0]}")
        return checkpoint

    def _set_aside(self, update: int) -> None:
        aside = self._directory.with_name(self._directory.name + "_damaged")
        aside.mkdir(exist_ok=True)
        shutil.rmtree(aside / str(update), ignore_errors=True)
        (self._directory / str(update)).rename(aside / str(update))
        self._manager.reload()


def _named_leaves(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arrays by their path, such as `state.learner.params.Dense_0.kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(checkpoint)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _checksums(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """`[members]` uint32, the CRC-32 of all of a member's rows."""
    rows = [
        np.ascontiguousarray(leaf).reshape(leaf.shape[0], -1).view(np.uint8)
        for _, leaf in sorted(arrays.items())
        if leaf.size
    ]
    sums = [functools.reduce(lambda crc, row: zlib.crc32(row, crc), member, 0) for member in zip(*rows, strict=True)]
    return np.asarray(sums, np.uint32)

"""Checkpoints: orbax files, with a checksum for each member. They are written while the devices work on.

A flipped bit in stored arrays is restored without complaint by the storage layer, so every checkpoint holds a
checksum of each member's data, and a checkpoint is only trusted when all of them hold. Nor does that layer fall back
by itself, or notice a template of another dtype: what is stored is looked at before it is read.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from haepo_jax import processes

_KEEP = 3
_MOST_STEPS = 64  # in one folder; orbax keeps three
_ITEM = "default"  # where orbax puts what it is given without a name
_CHECKSUMS = "checksums"

Tree = Any
"""A pytree of arrays with a leading axis of members: all NumPy arrays, or all `jax.Array`s over the same devices."""


class Checkpoint(NamedTuple):
    """What was restored."""

    update: int
    """Updates done."""
    tree: Tree


class DamagedCheckpoint(NamedTuple):
    """A checkpoint that was passed over."""

    update: int
    reason: str


class Checkpointer:
    """A folder of checkpoints, of one run or of one wave of it; each is named after the number of updates done.

    All processes of a run must call its methods together.
    """

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
            options = ocp.CheckpointManagerOptions(max_to_keep=_KEEP, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, update: int, tree: Tree) -> None:
        """Begins to write a checkpoint, whole or not at all; those older than the newest three are dropped.

        The arrays may be changed or donated afterwards. Only after `wait` is it known to be there.

        Raises:
          Exception: this save, or the one before it, failed.
        """
        arrays = _named_leaves(tree)
        arrays[_CHECKSUMS] = _checksums(arrays, update)
        self._manager.save(update, args=ocp.args.StandardSave(arrays))

    def wait(self) -> None:
        """Returns once the newest save is there for good.

        Raises:
          Exception: it failed.
        """
        self._manager.wait_until_finished()

    def restore(self, template: Tree, *, first: int = 0) -> tuple[Checkpoint | None, list[DamagedCheckpoint]]:
        """Reads the newest good checkpoint.

        Args:
          template: NumPy arrays, or `jax.ShapeDtypeStruct`s with shardings, for structure, shapes, dtypes and places.
            It may have more rows than were saved, or fewer; the last row that was saved fills what is left over.
          first: the row of the saved arrays that becomes the first one.

        Returns:
          The checkpoint, or None when there is no good one; and the newer ones that were damaged, which are
          moved to `DIRECTORY_damaged/` beside the folder, unless it was opened to read only.
        """
        damaged: list[DamagedCheckpoint] = []
        for update in self._steps():
            reason = ""
            try:
                tree = self._read(update, template, first)
            except Exception as error:  # orbax raises bare Exceptions on damaged data
                reason = " ".join(str(error).split())[:200] or type(error).__name__
            # One process may see damage that the others do not.
            if not processes.gathered(np.array([bool(reason)])).any():
                return Checkpoint(update, tree), damaged
            damaged.append(DamagedCheckpoint(update, reason or "another process found it so"))
            if not self._read_only:
                self._set_aside(update)
        return None, damaged

    def close(self) -> None:
        """Ends orbax's threads, after what they are writing."""
        self._manager.close()

    def _steps(self) -> list[int]:
        """The updates of the checkpoints, newest first, as process 0 sees them."""
        steps = np.full(_MOST_STEPS, -1, np.int32)
        if processes.is_first():
            found = sorted((int(path.name) for path in self._directory.iterdir() if path.name.isdigit()), reverse=True)
            steps[: len(found)] = found[:_MOST_STEPS]
        return [int(step) for step in processes.from_first(steps) if step >= 0]

    def _read(self, update: int, template: Tree, first: int) -> Tree:
        expected = _named_leaves(template)
        # The handler and not the manager, which has all processes wait for one that has found damage.
        handler = ocp.StandardCheckpointHandler()
        path = self._directory / str(update) / _ITEM
        stored = handler.metadata(path).tree
        saved = {name: leaf for name, leaf in stored.items() if name != _CHECKSUMS}
        if saved.keys() != expected.keys():
            raise ValueError(f"its arrays differ: {sorted(saved.keys() ^ expected.keys())}")
        for name, leaf in expected.items():
            if (saved[name].shape[1:], saved[name].dtype) != (leaf.shape[1:], leaf.dtype):
                raise ValueError(f"{name} is {saved[name].dtype}{saved[name].shape}, not {leaf.dtype}{leaf.shape}")
        num_stored = stored[_CHECKSUMS].shape[0]
        places = _places(stored, expected)
        arrays = handler.restore(path, args=ocp.args.StandardRestore(places, strict=False) if places else None)
        checksums = arrays.pop(_CHECKSUMS)
        wrong = _wrong_rows(_checksums(arrays, update), checksums, num_stored)
        if wrong:
            raise ValueError(f"the checksum does not hold for member {wrong[0]}")
        leaves = [_rows(arrays[name], leaf, first, num_stored) for name, leaf in expected.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def _set_aside(self, update: int) -> None:
        if processes.is_first():
            aside = self._directory.with_name(self._directory.name + "_damaged")
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(update), ignore_errors=True)
            (self._directory / str(update)).rename(aside / str(update))
        processes.barrier("set aside")
        self._manager.reload()


def _named_leaves(tree: Tree) -> dict[str, Any]:
    """The arrays by their path, such as `learner.params.Dense_0.kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _places(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct] | None:
    """Where each stored array goes, with as many rows as can be divided among the devices; None for NumPy arrays."""
    leaf = next(iter(expected.values()))
    if isinstance(leaf, np.ndarray):
        return None
    blocks = leaf.sharding.mesh.shape[leaf.sharding.spec[0]]
    rows = math.ceil(next(iter(stored.values())).shape[0] / blocks) * blocks
    return {
        name: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=leaf.sharding)
        for name, array in stored.items()
    }


def _rows(array: Any, like: Any, first: int, num_stored: int) -> Any:
    """The rows from `first` on, as many as `like` has and where it lies."""
    if isinstance(array, np.ndarray) or (first == 0 and array.shape == like.shape):
        return array
    chosen = np.minimum(first + np.arange(like.shape[0]), num_stored - 1)
    return jax.jit(lambda array: array[chosen], out_shardings=like.sharding)(array)


def _wrong_rows(sums: jax.Array, stored: Any, num_stored: int) -> list[int]:
    """The rows of this process whose checksums differ."""
    if isinstance(stored, np.ndarray):
        return np.flatnonzero(np.asarray(sums) != stored).tolist()
    pairs = zip(sums.addressable_shards, stored.addressable_shards, strict=True)
    rows = [
        np.flatnonzero(np.asarray(computed.data) != np.asarray(kept.data)) + (computed.index[0].start or 0)
        for computed, kept in pairs
    ]
    return [row for row in np.concatenate(rows).tolist() if row < num_stored]


def _checksums(arrays: Mapping[str, Any], update: int) -> jax.Array:
    """`[members]` uint32, a sum over all of a member's words, each times an odd number of its own.

    A word that changes changes the sum, as an odd factor loses nothing modulo 2^32. The update, by which the sum
    begins, makes that of zeroed files wrong, and that of a checkpoint under another number.
    """
    return _summed(
        [_words(leaf) for _, leaf in sorted(arrays.items())], np.uint32((update * 2 + 1) * 0x9E3779B9 % 2**32)
    )


def _words(leaf: Any) -> Any:
    """NumPy arrays as unsigned words: in JAX, 64 bits may be cut to 32."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    rows = np.ascontiguousarray(leaf).reshape(leaf.shape[0], -1)
    return rows.view(f"uint{8 * min(leaf.dtype.itemsize, 4)}")


@jax.jit
def _summed(leaves: list[jax.Array], start: jax.Array) -> jax.Array:
    total = jnp.full(leaves[0].shape[0], start, jnp.uint32)
    for number, leaf in enumerate(leaves):
        rows = leaf.reshape(leaf.shape[0], -1)
        if rows.dtype == bool:
            rows = rows.astype(jnp.uint8)
        words = jax.lax.bitcast_convert_type(rows, f"uint{8 * rows.dtype.itemsize}").astype(jnp.uint32)
        position = jnp.arange(words.shape[1], dtype=jnp.uint32) + jnp.uint32(number)
        total += (words * (position * jnp.uint32(0x0B4E4D56) + 1)).sum(axis=1, dtype=jnp.uint32)
    return total

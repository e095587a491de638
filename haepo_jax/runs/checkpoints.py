"""Checkpoints: orbax files, a record of what they are, and a checksum for each member. Written while devices work on.

A flipped bit in stored arrays is restored without complaint by the storage layer, so every checkpoint holds a
checksum of each member's data, which begins with that of its record. Nor does that layer notice a template of another
structure, or that a checkpoint is of another run: the record says both, and is compared before any array is read.
"""

import hashlib
import json
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from haepo_jax.errors import ConfigError, in_the_way
from haepo_jax.runs import checksums
from haepo_jax.runs.identity import describe_numbers
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.older_versions import upgrade_arrays, upgrade_structure
from haepo_jax.runs.structure import Structure, Tree, describe_structure, find_difference, is_described, name_leaves
from haepo_jax.runtime import processes

_KEEP = 3
_ITEM, _RECORD = "default", "record"  # the folders of a checkpoint; the first is orbax's name for an only one
_KEPT = "kept"  # a folder that marks a checkpoint as never to be dropped, written with it
_CHECKSUMS = "checksums"
_RECORD_SHAPE = {"run": str | None, "structure": dict, "numbers": dict} | dict.fromkeys(
    ("first", "end", "update", "rows"), int
)
_UNFINISHED = ".orbax-checkpoint-tmp"
_UPDATE = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_PLAIN_PATH = re.compile(r"[\w./@:%+=,~ -]*", re.ASCII)


class Record(NamedTuple):
    """What a checkpoint states of itself."""

    run: str | None
    """The id of its run; None for one that was begun before there were ids."""
    first: int
    """Its first member."""
    end: int
    """The member after its last one."""
    update: int
    """Updates done."""
    rows: int
    """Metric rows of its members before this update."""
    structure: Structure
    numbers: dict[str, Any]
    """Those of `haepo_jax.runs.identity.numbers` when it was written."""


class Saved(NamedTuple):
    """A checkpoint as it lies in its folder, its arrays not yet read."""

    path: Path
    update: int
    record: Record | None
    """None in one of before there were records, and where it is damaged."""
    damage: str
    """What is wrong with it; empty where nothing is known to be."""


class Checkpointer:
    """Writes the checkpoints of members that run together; each is named after the number of updates done.

    All processes of a run must call its methods together.
    """

    def __init__(self, directory: Path, members: range, *, run: str | None = None) -> None:
        """Makes the folder if needed and clears what an interrupted save left there.

        Args:
          directory: the folder.
          members: consecutive indices, whose states are the rows of what is saved.
          run: the id of the run.
        """
        self._directory, self._members, self._run = directory.absolute(), members, run
        if processes.is_first():
            self._directory.mkdir(parents=True, exist_ok=True)
            for left in self._directory.glob(f"*{_UNFINISHED}*"):
                if left.is_symlink() or not left.is_dir():
                    raise in_the_way(left)
                shutil.rmtree(left)
        processes.barrier("the folder of checkpoints is there")
        self._for_orbax = _PlainPath(self._directory)
        # Of a save that fails, its loop logs each further failure with a traceback; `wait` raises the first.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

    def save(self, update: int, tree: Tree, rows: int, *, keep: bool = False) -> None:
        """Begins to write a checkpoint, whole or not at all; older ones are dropped but for three and those to keep.

        The arrays may be changed or donated afterwards. Only after `wait` is it known to be there. One that is there
        already stays as it is.

        Args:
          update: updates done.
          tree: what is saved.
          rows: metric rows of the members before this update, on all processes.
          keep: whether it is never dropped.

        Raises:
          Exception: this save, or the one before it, failed.
        """
        self.wait()
        there = processes.from_first(np.array((self._directory / str(update)).exists()))
        if there:
            return
        arrays = name_leaves(tree)
        record = Record(
            self._run,
            self._members.start,
            self._members.stop,
            update,
            rows,
            describe_structure(tree),
            describe_numbers(),
        )._asdict()
        digest = _compute_digest(record)
        arrays[_CHECKSUMS] = checksums.compute(arrays, checksums.start_of_record(digest))
        items = {
            _ITEM: ocp.args.StandardSave(arrays),
            _RECORD: ocp.args.JsonSave({"record": record, "sha256": digest}),
        }
        if keep:
            items[_KEPT] = ocp.args.JsonSave({})
        self._orbax.save(self._for_orbax.path / str(update), args=ocp.args.Composite(**items))

    def wait(self) -> None:
        """Returns once the newest save is there for good.

        Raises:
          Exception: it failed.
        """
        self._orbax.wait_until_finished()
        if processes.is_first():
            folders = [path.name for path in self._directory.iterdir() if path.is_dir()]
            steps = sorted(int(name) for name in folders if is_update(name))
            for step in steps[:-_KEEP]:
                if (self._directory / str(step) / _KEPT).exists():
                    continue
                # Renamed first: what an interrupted removal leaves must not look like a checkpoint.
                gone = self._directory / f"{step}{_UNFINISHED}-old"
                (self._directory / str(step)).rename(gone)
                shutil.rmtree(gone)

    def close(self) -> None:
        """Ends orbax's threads, after what they are writing."""
        try:
            self.wait()
        finally:
            self._orbax.close()
            self._for_orbax.close()


def list_saved(directory: Path) -> list[Saved]:
    """Lists the checkpoints in a folder, the newest first; each update once, but for those that are damaged.

    What a checkpoint states counts, not the name of its folder: a renamed one is found all the same. Other files and
    folders are left out.
    """
    found, whole = _list_all(directory), set()
    kept = []
    for saved in found:
        if saved.damage or saved.update not in whole:
            kept.append(saved)
        if not saved.damage:
            whole.add(saved.update)
    return kept


def list_misnamed(directory: Path) -> list[Saved]:
    """Lists the checkpoints in a folder whose names are not their updates."""
    return [saved for saved in _list_all(directory) if saved.path.name != str(saved.update)]


def _list_all(directory: Path) -> list[Saved]:
    """Lists the newest first; of the same update first the damaged ones, then that with the right name."""
    found = [saved for path in sorted(directory.iterdir()) if (saved := _read_saved(path)) is not None]
    return sorted(found, key=lambda saved: (-saved.update, not saved.damage, saved.path.name != str(saved.update)))


def is_update(name: str) -> bool:
    """Returns whether a folder of this name holds a checkpoint."""
    return _UPDATE.fullmatch(name) is not None


def read_structure(saved: Saved) -> Structure:
    """Reads the structure of the arrays of a checkpoint, as the storage library has it.

    Raises:
      Exception: it is damaged; orbax raises bare ones.
    """
    plain = _PlainPath(saved.path.absolute())
    try:
        stored = ocp.StandardCheckpointHandler().metadata(plain.path / _ITEM).tree
    finally:
        plain.close()
    return {name: [str(leaf.dtype), list(leaf.shape[1:])] for name, leaf in stored.items() if name != _CHECKSUMS}


def read_checkpoint(saved: Saved, template: Tree, *, first: int = 0) -> Tree:
    """Reads the arrays of a checkpoint, whose checksums must hold.

    Args:
      saved: the checkpoint.
      template: NumPy arrays, or `jax.ShapeDtypeStruct`s with shardings, for structure, shapes, dtypes and places. It
        may have more rows than were saved, or fewer; the last row that was saved fills what is left over.
      first: the row of the saved arrays that becomes the first one.

    Raises:
      Exception: it is damaged; orbax raises bare ones.
    """
    expected = name_leaves(template)
    if difference := find_difference(upgrade_structure(read_structure(saved)), describe_structure(template)):
        raise ValueError(f"it does not hold what it states: {difference}")
    plain = _PlainPath(saved.path.absolute())
    try:
        # The handler and not orbax's manager, which has all processes wait for one that has found damage.
        handler = ocp.StandardCheckpointHandler()
        path = plain.path / _ITEM
        stored = handler.metadata(path).tree
        num_stored = stored[_CHECKSUMS].shape[0]
        places = _choose_places(stored, expected)
        arrays = handler.restore(path, args=ocp.args.StandardRestore(places, strict=False) if places else None)
    finally:
        plain.close()
    kept = arrays.pop(_CHECKSUMS)
    if saved.record is None:
        start = checksums.start_before_records(saved.update)
    else:
        start = checksums.start_of_record(_compute_digest(saved.record._asdict()))
    wrong = checksums.find_wrong_rows(checksums.compute(arrays, start), kept, num_stored)
    if wrong:
        raise ValueError(f"the checksum does not hold for member {wrong[0]}")
    arrays = upgrade_arrays(arrays)
    leaves = [_take_rows(arrays[name], leaf, first, num_stored) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _read_saved(path: Path) -> Saved | None:
    """Reads what the checkpoint in a folder states; None where there is none."""
    named = int(path.name) if is_update(path.name) else None
    stated = path / _RECORD / "metadata"  # as orbax calls it
    if _UNFINISHED in path.name or (named is None and not stated.is_file()):
        return None
    if not (path / _ITEM).is_dir():
        return None if named is None else Saved(path, named, None, "it holds no arrays")
    if not (path / _RECORD).exists():
        return None if named is None else Saved(path, named, None, "")
    try:
        content = read_json(stated, {"record": _RECORD_SHAPE, "sha256": str})
        if _compute_digest(content["record"]) != content["sha256"]:
            raise ConfigError("the checksum of its record does not hold")
        if not all(is_described(array) for array in content["record"]["structure"].values()):
            raise ConfigError("its record does not describe its arrays")
        record = Record(**content["record"])
    except (ConfigError, TypeError) as error:
        return None if named is None else Saved(path, named, None, str(error).rstrip("."))
    return Saved(path, record.update, record, "")


class _PlainPath:
    """A folder by a path that the storage library takes, which reads [] as a pattern and a backslash as a slash."""

    def __init__(self, folder: Path) -> None:
        """Makes a link to the folder, where its own path is not plain."""
        self.path = folder
        self._holder: tempfile.TemporaryDirectory | None = None
        if not _PLAIN_PATH.fullmatch(str(folder)):
            self._holder = tempfile.TemporaryDirectory(prefix="haepo_jax_")
            self.path = Path(self._holder.name) / "folder"
            self.path.symlink_to(folder, target_is_directory=True)

    def close(self) -> None:
        """Removes the link."""
        if self._holder is not None:
            self._holder.cleanup()


def _compute_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _choose_places(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct] | None:
    """Places each stored array, with as many rows as can be divided among the devices; None for NumPy arrays."""
    leaf = next(iter(expected.values()))
    if isinstance(leaf, np.ndarray):
        return None
    shares = leaf.sharding.mesh.shape[leaf.sharding.spec[0]]
    rows = math.ceil(next(iter(stored.values())).shape[0] / shares) * shares
    return {
        name: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype, sharding=leaf.sharding)
        for name, array in stored.items()
    }


def _take_rows(array: Any, like: Any, first: int, num_stored: int) -> Any:
    """Takes the rows from `first` on, as many as `like` has and where it lies."""
    if isinstance(array, np.ndarray) or (first == 0 and array.shape == like.shape):
        return array
    chosen = np.minimum(first + np.arange(like.shape[0]), num_stored - 1)
    return jax.jit(lambda array: array[chosen], out_shardings=like.sharding)(array)

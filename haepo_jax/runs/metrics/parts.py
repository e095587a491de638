"""The parts of `metrics/` that belong to a run, apart from whatever else lies there.

Each part states in its schema which run it is of and under which name it was written. A member's rows follow one
another from update 0 on, each once, over all parts; a part that would double rows is none of the run's.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from haepo_jax.config.members import Member, text_settings
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import StrPath, read_identity, read_members

_NAME = re.compile(r"part-[0-9]{5,}-([0-9]{8,})-([0-9]{8,})\.parquet", re.ASCII)
_STATEMENT = b"haepo_jax"
_KINDS = {"member": pa.int32(), "update": pa.int32(), "env_steps": pa.int64(), "tokens": pa.int64()}
_KINDS |= {"seed": pa.int64(), "diverged": pa.bool_()}
"""The types of the columns that rows of every algorithm have."""
_ALWAYS = ("seed", "env_steps", "diverged", "episode_return")
"""Columns that have a value in every row, where a run has them at all."""


class Parts(NamedTuple):
    """The contents of `metrics/`."""

    own: tuple[Path, ...]
    """The parts of the run, in the order of their first updates."""
    others: dict[str, str]
    """The names of all else that lies there, and why it is not read."""
    members: np.ndarray
    """Those that have rows, ascending."""
    whole: np.ndarray
    """For each of them, how many updates from the first on have their row."""
    gap: str
    """Names in a sentence the rows that are missing before others; empty where none is."""
    run: str | None
    """The id of the run, as its `run.json` or else its parts state it; None for one without."""

    def rows(self, update: int, members: range) -> int:
        """Counts the rows that these members have before an update, counted up to the first that is missing."""
        chosen = (self.members >= members.start) & (self.members < members.stop)
        return int(np.minimum(self.whole[chosen], update).sum())


class _Content(NamedTuple):
    """The contents of a part: for each member consecutive updates."""

    path: Path
    run: str | None
    name: str
    """Under which it was written."""
    members: np.ndarray
    first: np.ndarray
    updates: np.ndarray
    schema: pa.Schema
    empty: frozenset[str]
    """The columns without any value."""


class _NoPart(Exception):
    """Why a file is not read."""


def list_parts(workdir: StrPath) -> Parts:
    """Sorts what lies in the `metrics/` of a run folder; changes nothing.

    Raises:
      ConfigError: there are parts of several runs and no `run.json` that says which is this one's, or `run.json` or
        `members.json` is damaged.
    """
    workdir = Path(workdir)
    directory, others = workdir / "metrics", {}
    contents: list[_Content] = []
    listed = _read_members(workdir)
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name.startswith("."):  # that of a process which writes
            continue
        try:
            contents.append(_read_content(path, listed))
        except _NoPart as reason:
            others[path.name] = str(reason)
    run, contents = _keep_one_run(workdir, contents, others)
    contents = _drop_copies(_keep_one_kind(contents, listed, others), others)
    own, members, whole, gap = _put_in_order(contents, others)
    return Parts(own, others, members, whole, gap, run)


def open_dataset(
    workdir: StrPath, schema: pa.Schema | None = None, parts: Parts | None = None
) -> pyarrow.dataset.Dataset:
    """Opens the rows of a run as a data set, from its own parts alone; flipped bits in them raise an `OSError`.

    Args:
      workdir: the run folder.
      schema: of the data set; that of the first part by default.
      parts: what `list_parts` says of the folder, for who has asked it before.

    Raises:
      ConfigError: there are none yet, or rows are missing before others.
    """
    workdir = Path(workdir)
    parts = parts or list_parts(workdir)
    unread = "".join(f"; {name} is not read: {reason}" for name, reason in parts.others.items())
    if parts.gap:
        raise ConfigError(f"{workdir / 'metrics'} has lost rows: {parts.gap}{unread}.")
    if not parts.own:
        raise ConfigError(f"{workdir / 'metrics'} holds no rows of the run{unread}.")
    scan = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
    # A folder above may be called seed=0, which must not become a column: no partitioning.
    return pyarrow.dataset.dataset(
        [str(path) for path in parts.own],
        schema=schema,
        format=pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=scan),
        partitioning=None,
    )


def make_statement(run: str | None, name: str) -> dict[bytes, bytes]:
    """Makes the statement in the schema of a part: its run, and its own name."""
    return {_STATEMENT: json.dumps({"run": run, "part": name}).encode()}


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Reads the rows of a part, or some of its columns; its checksums are verified."""
    with path.open("rb") as file:
        return pq.ParquetFile(file, page_checksum_verification=True).read(columns)


def read_bounds(metadata: pq.FileMetaData, column: str) -> tuple[int, int] | None:
    """Reads the least and the largest value of a column, from the part's own statistics; None where it has none."""
    index = metadata.schema.names.index(column)
    groups = [metadata.row_group(k).column(index).statistics for k in range(metadata.num_row_groups)]
    if not groups or any(group is None or not group.has_min_max for group in groups):
        return None
    return min(group.min for group in groups), max(group.max for group in groups)


def _read_content(path: Path, listed: Sequence[Member] | None) -> _Content:
    name = _NAME.fullmatch(path.name)
    if not path.is_file():
        raise _NoPart("it is no file")
    if path.suffix != ".parquet":
        raise _NoPart("it is no part of the data set")
    try:
        with path.open("rb") as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            stated = _read_statement(parquet.schema_arrow.metadata or {})
            members, first, count = _read_rows(parquet)
            _check_kinds(parquet.schema_arrow, listed)
            empty = _find_empty_columns(parquet)
    except (pa.ArrowException, OSError) as error:
        raise _NoPart("it cannot be read as a parquet file") from error
    own_name = path.name if stated is None else stated["part"]
    parsed = name if stated is None else _NAME.fullmatch(own_name)
    if parsed is None or members[0] < int(parsed[1]) or first.min() != int(parsed[2]):
        raise _NoPart("its name and its rows disagree")
    if members[0] < 0 or (listed is not None and members[-1] >= len(listed)):
        raise _NoPart(f"it has rows of member {members[-1] if members[0] >= 0 else members[0]}, which the run has not")
    return _Content(
        path, None if stated is None else stated["run"], own_name, members, first, count, parquet.schema_arrow, empty
    )


def _read_statement(metadata: dict[bytes, bytes]) -> dict[str, Any] | None:
    if _STATEMENT not in metadata:
        return None
    try:
        stated = json.loads(metadata[_STATEMENT])
    except ValueError as error:
        raise _NoPart("what it states of itself cannot be read") from error
    if (
        not isinstance(stated, dict)
        or not isinstance(stated.get("run"), str | None)
        or not isinstance(stated.get("part"), str)
    ):
        raise _NoPart("what it states of itself cannot be read")
    return stated


def _read_rows(parquet: pq.ParquetFile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads the members of a part, ascending, with the first update of each and how many there are from it on."""
    schema, metadata = parquet.schema_arrow, parquet.metadata
    for column in ("member", "update"):
        if column not in schema.names or not pa.types.is_integer(schema.field(column).type):
            raise _NoPart(f"it has no column {column} of whole numbers")
    if not metadata.num_rows:
        raise _NoPart("it has no rows")
    member, update = read_bounds(metadata, "member"), read_bounds(metadata, "update")
    if member and update and (member[1] - member[0] + 1) * (update[1] - update[0] + 1) == metadata.num_rows:
        members = np.arange(member[0], member[1] + 1)
        updates = np.full(len(members), update[1] - update[0] + 1)
        return members, np.full(len(members), update[0]), updates
    table = parquet.read(["member", "update"])
    if table["member"].null_count or table["update"].null_count:
        raise _NoPart("it has rows without a member or an update")
    every, updates = (table[name].to_numpy().astype(np.int64) for name in ("member", "update"))
    members, row, count = np.unique(every, return_inverse=True, return_counts=True)
    order = np.lexsort((updates, row))
    step = np.diff(updates[order])[np.diff(row[order]) == 0]
    if (step != 1).any():
        raise _NoPart("its rows do not follow one another, each once")
    first = updates[order][np.concatenate([[0], np.cumsum(count)[:-1]])]
    return members, first, count


def _check_kinds(schema: pa.Schema, listed: Sequence[Member] | None) -> None:
    """Refuses columns of types that no run writes."""
    text = set() if listed is None else text_settings(listed)
    settings = () if listed is None else listed[0].settings
    kinds = _KINDS | {name: pa.string() if name in text else pa.float64() for name in settings}
    if len(set(schema.names)) < len(schema.names):
        raise _NoPart("it has a column twice")
    for column in schema:
        kind, is_setting = column.type, "." in column.name
        if column.name in kinds:
            if kind != kinds[column.name]:
                raise _NoPart(f"its column {column.name} is {kind}, not {kinds[column.name]}")
        elif not (_is_number(kind) or (is_setting and pa.types.is_string(kind))):
            raise _NoPart(f"its column {column.name} is {kind}, not a number")


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _find_empty_columns(parquet: pq.ParquetFile) -> frozenset[str]:
    """Lists the columns that have no value at all. One that lacks some is none of a run's."""
    empty, rows = set(), parquet.metadata.num_rows
    for name in parquet.schema_arrow.names:
        nulls = _count_nulls(parquet, name)
        if 0 < nulls < rows:
            raise _NoPart(f"its column {name} has no value in {nulls} of {rows} rows")
        if nulls:
            empty.add(name)
    return frozenset(empty)


def _count_nulls(parquet: pq.ParquetFile, name: str) -> int:
    metadata = parquet.metadata
    index = metadata.schema.names.index(name)
    groups = [metadata.row_group(k).column(index).statistics for k in range(metadata.num_row_groups)]
    if any(group is None or not group.has_null_count for group in groups):
        return parquet.read([name])[name].null_count
    return sum(group.null_count for group in groups)


def _read_members(workdir: Path) -> list[Member] | None:
    if not (workdir / "members.json").exists():
        return None
    return [Member(m["index"], m["seed"], m["settings"], m["group"]) for m in read_members(workdir)]


def _keep_one_kind(
    contents: list[_Content], listed: Sequence[Member] | None, others: dict[str, str]
) -> list[_Content]:
    """Keeps those whose columns have the types of most, and hold the values that their group's rows have."""
    groups = None if listed is None else {member.index: member.group for member in listed}
    several = groups is None or len(set(groups.values())) > 1

    def group(content: _Content) -> str | None:
        return None if groups is None else groups[int(content.members[0])]

    found: dict[str, Counter] = {}
    filled = set()
    for content in contents:
        for column in content.schema:
            found.setdefault(column.name, Counter())[column.type] += 1
            if groups is not None and column.name not in content.empty:
                filled.add((group(content), column.name))
    kinds = {name: counts.most_common(1)[0][0] for name, counts in found.items()}
    kept = []
    for content in contents:
        empty = (n for n in content.schema.names if n in content.empty)
        lost = next((n for n in empty if n in _ALWAYS or not several or (group(content), n) in filled), None)
        if reason := _describe_other_kind(content.schema, kinds):
            others[content.path.name] = reason
        elif lost is not None:
            others[content.path.name] = f"its column {lost} has no values"
        else:
            kept.append(content)
    return kept


def _describe_other_kind(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> str:
    """Says how a part's columns differ from those of a run; empty where they do not."""
    missing = [name for name in _ALWAYS if name in kinds and name not in schema.names]
    if missing:
        return f"it has no column {missing[0]}"
    for column in schema:
        if column.type != kinds[column.name]:
            return f"its column {column.name} is {column.type}, and in other parts {kinds[column.name]}"
    return ""


def _keep_one_run(
    workdir: Path, contents: list[_Content], others: dict[str, str]
) -> tuple[str | None, list[_Content]]:
    runs = {content.run for content in contents}
    noted = read_identity(workdir)
    if noted is not None:
        run = noted["run"]
    elif len(runs) > 1:
        raise ConfigError(
            f"{workdir / 'metrics'} holds parts of {len(runs)} runs, and {workdir} has no run.json that says which is "
            "its own."
        )
    else:
        run = next(iter(runs), None)
    others |= {content.path.name: "it belongs to another run" for content in contents if content.run != run}
    return run, [content for content in contents if content.run == run]


def _drop_copies(contents: list[_Content], others: dict[str, str]) -> list[_Content]:
    """Keeps one file for each name that parts state, that with this very name if there is one."""
    chosen: dict[str, _Content] = {}
    for content in sorted(contents, key=lambda content: content.path.name != content.name):
        if content.name in chosen:
            others[content.path.name] = f"it is a copy of {content.name}"
        else:
            chosen[content.name] = content
    return list(chosen.values())


def _put_in_order(
    contents: list[_Content], others: dict[str, str]
) -> tuple[tuple[Path, ...], np.ndarray, np.ndarray, str]:
    members = np.unique(np.concatenate([np.empty(0, np.int64), *(content.members for content in contents)]))
    whole = np.zeros(len(members), np.int64)
    own, gap = [], ""
    for content in sorted(contents, key=lambda content: (int(content.first.min()), content.name)):
        at = np.searchsorted(members, content.members)
        if (whole[at] > content.first).any():
            others[content.path.name] = "its rows are there already"
            continue
        own.append(content.path)
        missing = np.flatnonzero(whole[at] < content.first)
        if not missing.size:
            whole[at] += content.updates
        elif not gap:
            row = missing[0]
            gap = (
                f"member {content.members[row]} has none for updates {whole[at][row]} to {content.first[row] - 1}, "
                f"before those of {content.path.name}"
            )
    return tuple(own), members, whole, gap

"""Reading the metrics of a run folder: the rows of its own members, each once, with none left out."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from haepo_jax.config.members import Member, text_settings
from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import StrPath, find_exchange_interval, read_members, read_record
from haepo_jax.runs.metrics.parts import list_parts, open_dataset
from haepo_jax.text import format_settings, format_value


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a run. The updates of a member follow one another from 0."""

    members: list[dict[str, Any]]
    """As of `read_members`."""
    member: np.ndarray
    """`[rows]`."""
    update: np.ndarray
    """`[rows]`."""
    columns: Mapping[str, np.ndarray]
    """The columns that were asked for, each `[rows]`."""

    @property
    def count(self) -> np.ndarray:
        """`[members]` how many rows each member has."""
        return np.bincount(self.member, minlength=len(self.members))

    @property
    def has_diverged(self) -> np.ndarray:
        """`[members]` boolean, whether its last row says so; a copy of another member has rows after it diverged."""
        flags = self.by_update("diverged", False)
        return flags[np.arange(len(flags)), np.maximum(self.count - 1, 0)] if flags.size else self.count < 0

    def by_update(self, name: str, missing: Any) -> np.ndarray:
        """Arranges a column as `[members, updates]`, with `missing` where there is no row."""
        values = self.columns[name]
        shape = (len(self.members), int(self.count.max(initial=0)))
        result = np.full(shape, missing, dtype=np.result_type(values, np.asarray(missing)))
        result[self.member, self.update] = values
        return result


def read_rows(workdir: StrPath, columns: Sequence[str]) -> Rows:
    """Reads columns of all rows of a run, whether it is complete or still running.

    Args:
      workdir: the run folder.
      columns: their names. One that has no value in a row is NaN there, or False.

    Raises:
      ConfigError: the folder holds no run; a part cannot be read, or is of another run; a column or rows are missing.
    """
    directory, members = Path(workdir) / "metrics", read_members(workdir)
    text = text_settings([Member(m["index"], m["seed"], m["settings"]) for m in members])
    types = {"member": pa.int32(), "seed": pa.int64(), "update": pa.int32()}
    types |= {name: pa.string() if name in text else pa.float64() for name in members[0]["settings"]}
    with _sentences(directory):
        parts = list_parts(workdir)
        if parts.own or any(name.endswith(".parquet") for name in parts.others):
            found = open_dataset(workdir, parts=parts)
            if missing := [name for name in columns if name not in found.schema.names]:
                raise ConfigError(f"{directory} is not that of such a run: it has rows without {', '.join(missing)}.")
            # The parts of its groups may differ in the columns that are not read here.
            types |= {name: found.schema.field(name).type for name in columns}
            table = found.replace_schema(pa.schema(types)).to_table()
        else:
            table = pa.schema(types | dict.fromkeys(columns, pa.float32())).empty_table()
    _check_rows(directory, table, members, text, _find_fixed_updates(workdir))
    return Rows(
        members,
        table["member"].to_numpy(),
        table["update"].to_numpy(),
        {name: _to_array(table[name]) for name in columns},
    )


def read_metric(workdir: StrPath, name: str) -> np.ndarray:
    """Reads one metric of a run.

    Args:
      workdir: the run folder.
      name: a column of `metrics/`.

    Returns:
      `[members, updates]`; once a member has stopped, NaN, or for `env_steps` what it took in all.

    Raises:
      KeyError: the run's algorithm does not write this metric.
      ConfigError: as of `read_rows`.
    """
    with _sentences(Path(workdir) / "metrics"):
        names = open_dataset(workdir).schema.names
    if name not in names:
        raise KeyError(f"{workdir} has no metric {name}; it has {', '.join(names)}.")
    rows = read_rows(workdir, (name,))
    result = rows.by_update(name, np.float32(np.nan))
    if name == "env_steps":
        last = np.maximum(rows.count - 1, 0)
        result = np.take_along_axis(result, np.minimum(np.arange(result.shape[1]), last[:, None]), axis=1)
    return result


def list_metrics(workdir: StrPath) -> list[str]:
    """Lists the metrics that a run writes, by the names of their columns; none before its first rows.

    Raises:
      ConfigError: as of `read_rows`.
    """
    besides = {"member", "seed", "update", "env_steps", "diverged", *read_members(workdir)[0]["settings"]}
    with _sentences(Path(workdir) / "metrics"):
        parts = list_parts(workdir)
        if not parts.own:
            return []
        schema = open_dataset(workdir, parts=parts).schema
    return [field.name for field in schema if field.name not in besides and pa.types.is_floating(field.type)]


@contextlib.contextmanager
def _sentences(directory: Path) -> Iterator[None]:
    """Turns what pyarrow raises of a part that it cannot read into a sentence."""
    try:
        yield
    except FileNotFoundError as error:  # a running process has replaced it
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{directory} cannot be read: {reason} (while the run is at work, ask again).") from error
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{directory} cannot be read: {str(error).splitlines()[0]}.") from error


def group_by_setting(members: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Returns the indices of members that share their swept settings, under a label of those settings."""
    points: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        points.setdefault(json.dumps(member["settings"]), []).append(index)
    chosen = [members[indices[0]]["settings"] for indices in points.values()]
    labels = [format_settings(settings) for settings in chosen]
    if len(set(labels)) < len(labels):
        labels = [format_settings(settings, digits=None) for settings in chosen]
    return dict(zip(labels, points.values(), strict=True))


def _find_fixed_updates(workdir: StrPath) -> int | None:
    """Finds for how many updates the settings of members stay as they are; None where they never change."""
    if not (Path(workdir) / "config.json").exists():
        return None
    return find_exchange_interval(read_record(workdir))


def _check_rows(
    directory: Path, table: pa.Table, members: list[dict[str, Any]], text: set[str], fixed_updates: int | None
) -> None:
    """Holds the rows to be those of the members: equal seeds, and settings as far as they do not change.

    Raises:
      ConfigError: they are not.
    """
    identity = ["seed", *members[0]["settings"]]
    if empty := [name for name in identity if table[name].null_count]:
        raise ConfigError(f"{directory} is not that of such a run: it has rows without {', '.join(empty)}.")
    member = table["member"].to_numpy()
    for name in identity:
        own = [m["seed"] if name == "seed" else m["settings"][name] for m in members]
        expected = np.array([format_value(value, digits=None) for value in own] if name in text else own)
        if fixed_updates is None or name == "seed" or name in text:
            wrong = np.flatnonzero(table[name].to_numpy() != expected[member])
        else:  # as the program holds them
            differs = table[name].to_numpy().astype(np.float32) != expected.astype(np.float32)[member]
            wrong = np.flatnonzero(differs & (table["update"].to_numpy() < fixed_updates))
        if wrong.size:
            raise ConfigError(
                f"{directory} has rows of member {member[wrong[0]]} with {name} "
                f"{table[name][int(wrong[0])].as_py()}, which is {expected[member[wrong[0]]]} in members.json: one of "
                "them is of another run."
            )


def _to_array(column: pa.ChunkedArray) -> np.ndarray:
    """Returns a column as an array; what has no value is NaN, or False."""
    if pa.types.is_boolean(column.type):
        column = pc.fill_null(column, False)
    return column.to_numpy()

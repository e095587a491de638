"""The record of a run's updates: the metric files of its folder."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haepo_jax.config.members import Member
from haepo_jax.runs.folder import write_file
from haepo_jax.runs.metrics.parts import list_parts, make_statement, read_bounds, read_part
from haepo_jax.text import format_value

_REAL, _TEXT = pa.float64(), pa.string()


class MetricsWriter:
    """The `metrics/` of a run folder: one row for each member and update, in parquet parts that make one data set.

    A part is named `part-PROCESS-FIRSTMEMBER-FIRSTUPDATE.parquet`. Columns: member, seed, the swept settings by name,
    update, env_steps (cumulative, after the update; language models count tokens instead), diverged (True in the last
    row of a member that did), and the metrics. A member that has stopped has no more rows. With population-based
    training the swept settings are those of the update, and a member that has diverged has rows until its wave ends,
    as it may be a copy of another one later.
    """

    def __init__(
        self,
        directory: Path,
        members: Sequence[Member],
        *,
        metrics: Mapping[str, np.dtype | type] | None = None,
        counter: str = "env_steps",
        text: Collection[str] = (),
        process: int = 0,
        run: str | None = None,
    ) -> None:
        """Opens the folder, and makes it if needed.

        Args:
          directory: the folder.
          members: those whose rows are written.
          metrics: name and dtype of every metric of the data set; one that a part has not is null there. None: all
            parts have the same ones.
          counter: the name of the column of what is counted.
          text: the swept settings that are written as text, as not all of their values are numbers.
          process: which process writes.
          run: the id of the run, which every part states.
        """
        self._directory = directory
        self._members = members
        self._metrics = metrics
        self._counter = counter
        self._text = text
        self._process = process
        self._run = run
        directory.mkdir(exist_ok=True)

    def write(
        self,
        first_update: int,
        metrics: Mapping[str, np.ndarray],
        counted: np.ndarray,
        *,
        where: np.ndarray | None = None,
        diverged: np.ndarray | None = None,
        settings: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Writes a part, unless it would be empty.

        Args:
          first_update: the update of its first row.
          metrics: arrays `[updates, members]` by name.
          counted: `[updates, members]` int64, environment steps or tokens so far.
          where: `[updates, members]` boolean, the rows to write; all by default.
          diverged: `[updates, members]` boolean, the updates at which members diverged; none by default.
          settings: `[updates, members]` by dotted name, the swept settings that are not as in the members.
        """
        num_updates, num_members = counted.shape
        kept = np.ones(counted.shape, bool) if where is None else where
        if not kept.any():
            return
        members = np.broadcast_to(np.arange(num_members), counted.shape)[kept]

        def per_member(values: list, kind: pa.DataType) -> pa.Array:
            return pa.array(values, kind).take(pa.array(members))

        columns = {
            "member": per_member([member.index for member in self._members], pa.int32()),
            "seed": per_member([member.seed for member in self._members], pa.int64()),
        }
        for name in self._members[0].settings:
            values = [member.settings[name] for member in self._members]
            if name in settings:
                columns[name] = settings[name][kept].astype(np.float64)
                continue
            is_text = name in self._text
            own = [format_value(value, digits=None) for value in values] if is_text else values
            columns[name] = per_member(own, _TEXT if is_text else _REAL)
        updates = np.arange(first_update, first_update + num_updates, dtype=np.int32)[:, None]
        columns["update"] = np.broadcast_to(updates, counted.shape)[kept]
        columns[self._counter] = counted[kept]
        columns["diverged"] = np.zeros(counted.shape, bool)[kept] if diverged is None else diverged[kept]
        kinds = {name: values.dtype for name, values in metrics.items()} if self._metrics is None else self._metrics
        for name, kind in sorted(kinds.items()):
            there = name in metrics
            columns[name] = metrics[name][kept] if there else pa.nulls(len(members), pa.from_numpy_dtype(kind))
        first_member = self._members[0].index
        name = f"part-{self._process:05d}-{first_member:08d}-{first_update:08d}.parquet"
        _write_part(self._directory / name, pa.table(columns, metadata=make_statement(self._run, name)))


def drop_rows(workdir: Path, first_update: int, members: range | None = None) -> None:
    """Removes the rows of these members, all by default, from this update on: they are about to be written again.

    Args:
      workdir: a run folder, of any processes; what is not of its run stays as it is.
      first_update: the first update whose rows go.
      members: consecutive indices.
    """
    for part in reversed(list_parts(workdir).own):  # the last first: no gap, whenever it is stopped
        with part.open("rb") as file:
            metadata = pq.read_metadata(file)
        update, member = (read_bounds(metadata, name) for name in ("update", "member"))
        if update and update[1] < first_update:
            continue
        if member and members and (member[1] < members.start or member[0] >= members.stop):
            continue
        table = read_part(part)
        goes = pc.greater_equal(table["update"], first_update)
        if members is not None:
            goes = pc.and_(goes, pc.greater_equal(table["member"], members.start))
            goes = pc.and_(goes, pc.less(table["member"], members.stop))
        rest = table.filter(pc.invert(goes))
        if not rest.num_rows:
            part.unlink()
        elif rest.num_rows < table.num_rows:
            _write_part(part, rest)


def _write_part(path: Path, table: pa.Table) -> None:
    write_file(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))

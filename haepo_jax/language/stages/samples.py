"""Responses that were learnt from, written down with their rewards: `samples/` of a run folder.

One part an update, parquet, written before the checkpoint that makes its update count. A run that resumes removes the
parts of updates that it does again, and writes equal ones.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haepo_jax.errors import ConfigError, first_line
from haepo_jax.runs.folder import clear_leftovers, write_file
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.metrics.parts import make_statement, read_part

FOLDER = "samples"
_NAME = re.compile(r"part-00000-([0-9]{8,})\.parquet", re.ASCII)


class SamplesWriter:
    """Keeps the responses of some updates until they are written."""

    def __init__(self, every: int) -> None:
        """Wants the responses of every so many updates; of none for 0."""
        self._every = every
        self._pending: dict[int, pa.Table] = {}

    def wants(self, update: int) -> bool:
        """Returns whether the responses of an update, counted from 0, are to be written."""
        return bool(self._every) and (update + 1) % self._every == 0

    def add(self, update: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keeps the responses of an update, a row each."""
        count = len(next(iter(columns.values())))
        self._pending[update] = pa.table({"update": pa.array([update] * count, pa.int32()), **columns})

    def begin(self, workdir: Path, done: int) -> None:
        """Removes the parts of updates that an attempt will do again.

        Args:
          workdir: the run folder.
          done: updates that are done.

        Raises:
          OSError: the folder cannot be written.
        """
        if (workdir / FOLDER).is_dir():
            clear_leftovers(workdir / FOLDER)
        for update, path in list_parts(workdir):
            if update >= done:
                path.unlink()

    def write(self, workdir: Path) -> None:
        """Writes what is kept.

        Raises:
          OSError: the folder cannot be written.
        """
        for update, table in self._pending.items():
            name = f"part-00000-{update:08d}.parquet"
            part = table.replace_schema_metadata(make_statement(read_run_id(workdir), name))
            (workdir / FOLDER).mkdir(exist_ok=True)
            write_file(
                workdir / FOLDER / name,
                lambda path, part=part: pq.write_table(part, path, write_page_checksum=True),  # type: ignore[misc]
            )
        self._pending.clear()


def list_parts(workdir: Path) -> list[tuple[int, Path]]:
    """Lists the parts of a run folder with their updates, in that order."""
    folder = workdir / FOLDER
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted((int(found[1]), path) for path in paths if (found := _NAME.fullmatch(path.name)))


def read_samples(workdir: Path) -> pa.Table:
    """Reads the responses that a run has written, in the order of updates, prompts and samples.

    Returns:
      Columns `update`, `row` (file and line of the prompt), `prompt`, `sample` (its number among those of the prompt),
      `completion`, `reward` (before penalties), `reward/NAME` for each function and `reward/reward_model`, `tokens`,
      `ended`, `reference_kl` in nats.

    Raises:
      ConfigError: there are none, or a part cannot be read or is none of the run's.
    """
    parts = list_parts(workdir)
    if not parts:
        raise ConfigError(
            f"{workdir / FOLDER} holds no samples; a run writes them with --config.rl.write_samples_every above 0."
        )
    tables, run = [], read_run_id(workdir)
    for _, path in parts:
        try:
            table = read_part(path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{path} cannot be read: {first_line(error)}.") from error
        stated, expected = table.schema.metadata or {}, make_statement(run, path.name)
        if any(stated.get(name) != value for name, value in expected.items()):
            raise ConfigError(f"{path} is not what this run has written under that name; move it away.")
        tables.append(table.replace_schema_metadata())
    return pa.concat_tables(tables)

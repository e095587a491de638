"""The one way in which a run is written: rows, then provenance, then the checkpoint that makes them count.

A run that is killed in between resumes from the checkpoint before, and drops the rows that no checkpoint counts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.runs.checkpoints import Checkpointer
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.provenance import Provenance
from haepo_jax.runs.restore import Restored, Source, resume
from haepo_jax.runs.structure import Tree
from haepo_jax.runtime import processes


class Rows(NamedTuple):
    """Updates of the members of this process."""

    metrics: Mapping[str, np.ndarray]
    """`[updates, members]` by name."""
    counted: np.ndarray
    """`[updates, members]` int64, environment steps or tokens so far."""
    where: np.ndarray
    """`[updates, members]` boolean, False once a member has stopped."""
    diverged: np.ndarray
    """`[updates, members]` boolean, the updates at which members diverged, or had and were not yet copies."""
    settings: Mapping[str, np.ndarray] = MappingProxyType({})
    """`[updates, members]` by dotted name, the swept settings that change while members train."""


class Recorder:
    """Records members that run together. All processes call its methods together."""

    def __init__(
        self, workdir: Path, checkpointer: Checkpointer, writer: MetricsWriter | None, begun: Restored
    ) -> None:
        """Continues the records of a folder.

        Args:
          workdir: the run folder.
          checkpointer: of the members.
          writer: of the rows of those of this process; None where it has none.
          begun: where the attempt begins.
        """
        self._workdir, self._checkpointer, self._writer = workdir, checkpointer, writer
        self.done = begun.update
        """Updates that are recorded."""
        self._rows = begun.rows
        self._committed: float | None = None

    def is_due(self, seconds: float) -> bool:
        """Returns whether the last commit of this attempt was at least so many seconds ago, or is still to come."""
        return self._committed is None or time.monotonic() - self._committed >= seconds

    def commit(
        self,
        done: int,
        tree: Tree,
        rows: Rows,
        *,
        note: Callable[[], object],
        beside: Callable[[], object],
        keep: bool = False,
    ) -> None:
        """Writes the rows since the last commit, and begins to write the checkpoint.

        Args:
          done: updates done.
          tree: the state after them.
          rows: of the updates since `self.done`.
          note: writes provenance; before the checkpoint, as a run killed just after its last one is summed up from
            what is written here.
          beside: writes what else goes with the rows.
          keep: whether the checkpoint is never dropped.

        Raises:
          StorageError: this process or another one could not write.
        """
        failure: StorageError | ConfigError | None = None
        written = 0
        if self._writer is not None:
            written = int(rows.where.sum())
            try:
                with storage_errors(self._workdir):
                    self._writer.write(self.done, **rows._asdict())
                    beside()
            except (StorageError, ConfigError) as error:
                failure = error
        failed, everywhere = processes.gathered(np.array([failure is not None, written], np.int64)).sum(axis=0)
        if failed:
            raise failure or StorageError(f"Another process could not write to {self._workdir}, and says why.")
        self._rows += int(everywhere)
        with storage_errors(self._workdir):
            note()
            self._checkpointer.save(done, tree, self._rows, keep=keep)
        self.done, self._committed = done, time.monotonic()

    def wait(self) -> None:
        """Returns once the newest checkpoint is there for good.

        Raises:
          StorageError: it could not be written.
        """
        with storage_errors(self._workdir):
            self._checkpointer.wait()

    def close(self) -> None:
        """Ends what writes in the background, after what it is writing.

        Raises:
          StorageError: that could not be written.
        """
        with storage_errors(self._workdir):
            self._checkpointer.close()


def resume_recording(
    workdir: Path,
    provenance: Provenance,
    sources: Sequence[Source],
    template: Tree,
    members: range,
    writer: MetricsWriter | None,
    *,
    directory: Path,
    total: int,
) -> tuple[Restored, Recorder]:
    """Finds where an attempt begins, says so, and records from there on. All processes call it together.

    Args:
      workdir: the run folder, held by this run.
      provenance: of the attempt.
      sources: see `restore.resume`, as `template` and `members`.
      template: see there.
      members: see there.
      writer: of the rows of those members that are on this process; None where it has none.
      directory: where their checkpoints go.
      total: updates of the run.

    Raises:
      ConfigError: see `restore.resume`.
      OSError: the folder cannot be written.
    """
    begun = resume(workdir, sources, template, members)
    if begun.update and processes.is_first():
        print(f"Resuming after update {begun.update} of {total}.", flush=True)
    provenance.update(resumed_after_update=begun.update)
    return begun, Recorder(workdir, Checkpointer(directory, members, run=read_run_id(workdir)), writer, begun)

"""The one way in which a run is written: rows, then provenance, then the checkpoint that makes them count.

A run that is killed in between resumes from the checkpoint before, and drops the rows that no checkpoint counts.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from haepo_jax.errors import ConfigError, StorageError
from haepo_jax.runs.checkpoints import Checkpointer, Tree
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.restore import Restored
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
    """`[updates, members]` boolean, the updates at which members diverged."""


class Recorder:
    """Records members that run together. All processes call its methods together."""

    def __init__(
        self, workdir: Path, checkpointer: Checkpointer, writer: MetricsWriter | None, begun: Restored
    ) -> None:
        """Goes on from where the folder stands.

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
                    self._writer.write(self.done, rows.metrics, rows.counted, where=rows.where, diverged=rows.diverged)
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
        self.done = done

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

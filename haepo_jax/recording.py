"""What a run tells while it goes on: metric files for later, progress for now."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from haepo_jax.members import Member
from haepo_jax.run_folder import write_file


class MetricsWriter:
    """The `metrics/` of a run folder: one row for each member and update, in parquet parts.

    A part is named `part-PROCESS-FIRSTUPDATE.parquet`. Columns: member, seed, the swept settings by name,
    update, env_steps (cumulative, after the update; language models count tokens instead), and the metrics; NaN
    once a member has diverged.
    """

    def __init__(
        self, directory: Path, members: Sequence[Member], process: int = 0, counter: str = "env_steps"
    ) -> None:
        """Opens the folder, and makes it if needed; `counter` names the column of what is counted."""
        self._directory = directory
        self._members = members
        self._process = process
        self._counter = counter
        directory.mkdir(exist_ok=True)

    def drop_from(self, update: int) -> None:
        """Removes the parts that begin at this update or later: they are about to be written again."""
        for part in self._directory.glob(f"part-{self._process:05d}-*.parquet"):
            if int(part.stem.rsplit("-", 1)[1]) >= update:
                part.unlink()

    def write(self, first_update: int, metrics: dict[str, np.ndarray], counted: np.ndarray) -> None:
        """Writes a part.

        Args:
          first_update: the update of its first row.
          metrics: arrays `[updates, members]` by name.
          counted: `[updates, members]` int64, environment steps or tokens so far.
        """
        num_updates, num_members = counted.shape

        def per_member(values: list, dtype: type) -> np.ndarray:
            return np.tile(np.asarray(values, dtype), num_updates)

        columns = {
            "member": per_member([member.index for member in self._members], np.int32),
            "seed": per_member([member.seed for member in self._members], np.int64),
        }
        for name in self._members[0].settings:
            columns[name] = per_member([member.settings[name] for member in self._members], np.float64)
        columns["update"] = np.repeat(np.arange(first_update, first_update + num_updates, dtype=np.int32), num_members)
        columns[self._counter] = counted.ravel()
        columns |= {name: values.ravel() for name, values in sorted(metrics.items())}
        path = self._directory / f"part-{self._process:05d}-{first_update:08d}.parquet"
        table = pa.table(columns)
        write_file(path, lambda temporary: pq.write_table(table, temporary))


class ProgressReport:
    """Updates, what is said of them, and time left: a bar in a terminal, else now and then a line."""

    def __init__(self, total: int, done: int, quiet_seconds: float = 10.0) -> None:
        """Starts at `done` of `total` updates; without a terminal at most one line each `quiet_seconds`."""
        self._console = Console(stderr=True)
        self._total = total
        self._started, self._from = time.monotonic(), done
        self._quiet_seconds, self._last_line = quiet_seconds, -quiet_seconds
        self._bar = Progress(
            TextColumn("updates"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[note]}  left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("updates", total=total, completed=done, note="")
        self._bar.start()

    def show(self, done: int, note: str) -> None:
        """Reports the state after `done` updates, with a few words on it."""
        self._bar.update(self._task, completed=done, note=note)
        elapsed = time.monotonic() - self._started
        due = elapsed - self._last_line >= self._quiet_seconds or done == self._total
        if due and not self._console.is_terminal:
            self._last_line = elapsed
            left = elapsed / max(done - self._from, 1) * (self._total - done)
            self._console.print(
                f"updates {done}/{self._total}  {note}  left {left:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    def say(self, sentence: str) -> None:
        """Prints a sentence above the bar."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.stop()

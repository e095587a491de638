"""The progress of a run while it works: a bar in a terminal, else now and then a line."""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO, cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from haepo_jax.runtime.streams import BestEffort
from haepo_jax.text import visible

QUIET_SECONDS = 10.0
"""Without a terminal there is at most one line in so many seconds."""
_RECENT_SECONDS = 20.0


class _Moment(NamedTuple):
    """How far a run was."""

    seconds: float
    """Since the beginning of the report."""
    updates: int
    counted: float
    """Environment steps or tokens."""


class ProgressReport:
    """Updates, the rate of the last chunks, what is said of them, elapsed time and time left."""

    def __init__(
        self,
        total: int,
        done: int,
        *,
        counts: str,
        counted: float = 0.0,
        quiet_seconds: float = QUIET_SECONDS,
        shown: bool = True,
    ) -> None:
        """Starts a report.

        Args:
          total: updates of the run.
          done: those of them that are done.
          counts: what is counted beside updates, such as "env steps".
          counted: how much of it there is.
          quiet_seconds: without a terminal there is at most one line in so many seconds.
          shown: False in all processes of a run but one, where only what is said appears.
        """
        self._console = _console()
        self._shown = shown
        self._total, self._counts = total, counts
        self._started = time.monotonic()
        self._recent = deque([_Moment(0.0, done, counted)])
        self._note, self._updates_left = "", total - done
        self._quiet_seconds, self._last_line = quiet_seconds, -quiet_seconds
        self._unsaid = False
        self._bar = Progress(
            TextColumn("updates"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            _WordsColumn(self),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("updates", total=total, completed=done)
        self._bar.start()

    def show(self, done: int, counted: float, note: str, *, updates_left: int | None = None) -> None:
        """Reports the state after a chunk of updates.

        Args:
          done: updates.
          counted: environment steps or tokens.
          note: a few words on it.
          updates_left: those that are still to be done, the rest of the total by default; fewer where members will
            stop before, more where others wait for their turn.
        """
        self._recent.append(_Moment(time.monotonic() - self._started, done, counted))
        # The first chunk is slower than others, as much happens in it for the first time.
        while len(self._recent) > 2 and (
            self._recent[0].seconds == 0.0 or self._recent[-1].seconds - self._recent[1].seconds > _RECENT_SECONDS
        ):
            self._recent.popleft()
        self._note = note
        self._updates_left = self._total - done if updates_left is None else updates_left
        self._bar.update(self._task, completed=done)
        self._unsaid = True
        if self._recent[-1].seconds - self._last_line >= self._quiet_seconds:
            self._line()

    def words(self) -> str:
        """Says rate, note, elapsed time and time left now; no rate and no time left before the second chunk."""
        elapsed = time.monotonic() - self._started
        first, last = self._recent[0], self._recent[-1]
        if first is last:
            return f"{format_duration(elapsed)} so far"
        if first.seconds == 0.0 and self._updates_left:
            # A short first chunk in which much happens for the first time says nothing of those that follow.
            return f"{self._note}  {format_duration(elapsed)} so far"
        seconds = max(last.seconds - first.seconds, 1e-9)
        rate = (last.counted - first.counted) / seconds
        left = self._updates_left * seconds / max(last.updates - first.updates, 1) - (elapsed - last.seconds)
        about = f"about {format_duration(max(left, 0.0))} left" if self._updates_left else "done"
        return f"{rate:,.0f} {self._counts}/s  {self._note}  {format_duration(elapsed)} so far, {about}"

    def say(self, sentence: str) -> None:
        """Prints a sentence above the bar."""
        self._console.print(visible(sentence), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar; without a terminal, the newest state is said unless it was."""
        if self._unsaid:
            self._line()
        self._bar.stop()

    def _line(self) -> None:
        if self._shown and not self._console.is_terminal:
            last = self._recent[-1]
            self.say(f"updates {last.updates}/{self._total}  {self.words()}")
            self._last_line, self._unsaid = last.seconds, False


class _WordsColumn(ProgressColumn):
    """The words of a report, as they are at the moment that they are drawn."""

    def __init__(self, report: ProgressReport) -> None:
        super().__init__()
        self._report = report

    def render(self, task: Task) -> Text:
        return Text(self._report.words())


def count_updates_within(steps_left: np.ndarray, steps_an_update: np.ndarray) -> int:
    """Computes how many updates members will do whose environment steps are limited: those of the last to stop.

    Args:
      steps_left: `[members]`; none or less than none once a member has stopped.
      steps_an_update: `[members]`; 0 once a member has stopped.

    Returns:
      Updates, as long as members take as many steps in each as now.
    """
    works = (steps_an_update > 0) & (steps_left > 0)
    return int(np.ceil(steps_left[works] / steps_an_update[works]).max(initial=0))


@contextlib.contextmanager
def report_waiting(doing: str, done: str, *, quiet_seconds: float = 0.0, shown: bool = True) -> Iterator[None]:
    """Reports what is waited for, with the time since: all the while in a terminal, else before and after.

    Args:
      doing: such as "Compiling".
      done: such as "Compiled", for the sentence at the end.
      quiet_seconds: what takes no longer is reported in a terminal alone, while it lasts.
      shown: False in all processes of a run but one.
    """
    if not shown:
        yield
        return
    console, started = _console(), time.monotonic()
    if console.is_terminal:
        with Progress(TextColumn(f"{doing} ..."), TimeElapsedColumn(), console=console, transient=True) as bar:
            bar.add_task(doing)
            yield
    else:
        with _later(quiet_seconds, lambda: console.print(f"{doing} ...", highlight=False)):
            yield
    if (seconds := time.monotonic() - started) >= quiet_seconds:
        console.print(f"{done} in {format_duration(seconds)}.", highlight=False)


@contextlib.contextmanager
def _later(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Does something if the block takes so long; at once for 0 seconds."""
    if not seconds:
        do()
        yield
        return
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def format_duration(seconds: float) -> str:
    """Formats a time in words, in at most two units.

    Example:
      >>> [format_duration(seconds) for seconds in (0.4, 59.6, 75, 1800, 7320, 200000)]
      ['0 s', '1 min', '1 min 15 s', '30 min', '2 h 2 min', '2 d 8 h']
    """
    left, words = round(seconds), []
    if left >= 600:
        left = round(left / 60) * 60
    if left >= 86400:
        left = round(left / 3600) * 3600
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2]) or "0 s"


def _console() -> Console:
    return Console(file=cast(TextIO, BestEffort(sys.stderr)))

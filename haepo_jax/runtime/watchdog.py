"""Ends a process that has stood still for too long, so that whoever restarts it learns of it."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

from haepo_jax.errors import Stalled

STALL_SECONDS = 300.0
"""Of standing still, by default."""
_TICK_SECONDS = 1.0
_PATIENCE = 10  # times as long as was expected may a step take


class Watchdog:
    """Watches a run from a thread of its own, as long as it is entered and not paused.

    When no sign of life came for too long it prints the stacks of all threads and ends the process with the exit code
    of `Stalled`: the main thread waits for a device or another process, and cannot be woken. Time in which the whole
    process was stopped or the machine slept does not count.
    """

    def __init__(self, seconds: float) -> None:
        """Watches once entered; `seconds` without a sign of life are too long."""
        self._seconds = seconds
        self._limit: float | None = None  # None: paused
        self._signs = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        """Begins, paused."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends."""
        self._ended.set()
        self._thread.join()

    def alive(self, expected: float = 0.0) -> None:
        """Gives a sign of life; ends a pause.

        Args:
          expected: seconds that what comes now will probably take. Ten times as long is never too long.
        """
        self._signs += 1
        self._limit = max(self._seconds, _PATIENCE * expected)

    def pause(self) -> None:
        """Lets anything take as long as it likes until the next sign of life, such as to compile."""
        self._limit = None

    def _watch(self) -> None:
        tick = min(_TICK_SECONDS, self._seconds / 10)
        newest, quiet, signs = time.monotonic(), 0.0, self._signs
        while not self._ended.wait(tick):
            now = time.monotonic()
            # In what is longer than two ticks the process did not run.
            quiet = quiet + min(now - newest, 2 * tick) if signs == self._signs else 0.0
            newest, signs, limit = now, self._signs, self._limit
            if limit is not None and quiet > limit:
                faulthandler.dump_traceback(all_threads=True)
                print(Stalled.after(limit), file=sys.stderr, flush=True)
                os._exit(Stalled.EXIT_CODE)

"""Ends a process that has stood still for too long, so that whoever restarts it learns of it."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

from haepo_jax.errors import Stalled


class Watchdog:
    """Watches a run from a thread of its own, as long as it is entered and not paused.

    When no sign of life came for too long it prints the stacks of all threads and ends the process with the exit code
    of `Stalled`: the main thread waits for a device or another process, and cannot be woken.
    """

    def __init__(self, seconds: float) -> None:
        """Watches once entered; `seconds` without a sign of life are too long."""
        self._seconds = seconds
        self._newest: float | None = None  # None: paused
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

    def alive(self) -> None:
        """A sign of life; goes on after a pause."""
        self._newest = time.monotonic()

    def pause(self) -> None:
        """Until the next sign of life anything may take as long as it likes, such as to compile."""
        self._newest = None

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._seconds / 10)):
            newest = self._newest
            if newest is not None and time.monotonic() - newest > self._seconds:
                faulthandler.dump_traceback(all_threads=True)
                print(Stalled.after(self._seconds), file=sys.stderr, flush=True)
                os._exit(Stalled.EXIT_CODE)

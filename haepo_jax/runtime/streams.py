"""Words for whoever watches: nothing depends on them, so what cannot be written is left out."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast


class BestEffort:
    """A text stream whose reader may have gone, or whose device may be full: what fails is left out."""

    def __init__(self, stream: TextIO, on_write: Callable[[], object] = lambda: None) -> None:
        """Writes to `stream`, and calls `on_write` each time before."""
        self._stream, self._on_write = stream, on_write

    def write(self, text: str) -> int:
        """Writes a text, or leaves it out."""
        self._on_write()
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts, or leaves them out."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Passes on what was written, if that can be."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def close_quietly(self) -> None:
        """Passes on what was written; what cannot be is not tried again at the end of the process, and no error."""
        try:
            self._stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


def make_best_effort(on_write: Callable[[], object]) -> None:
    """Makes the standard output and the standard error of this process `BestEffort` streams."""
    sys.stdout = cast(TextIO, BestEffort(sys.stdout, on_write))
    sys.stderr = cast(TextIO, BestEffort(sys.stderr, on_write))


def close_quietly() -> None:
    """Passes on what was written to the standard streams, before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, BestEffort):
            stream.close_quietly()

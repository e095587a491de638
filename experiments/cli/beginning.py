"""The first step of a command: it can be stopped, and says a first word, while its libraries load.

The standard library alone, as this must be there before what takes seconds to import.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_SILENCE_SECONDS = 1.0


def begin(*, prints_results: bool = False) -> None:
    """Catches SIGINT and SIGTERM from here on, and says that the command is loading unless it says something soon.

    The first word goes to a terminal or else, with other words of the run, to the standard output.

    Args:
      prints_results: what the command prints is its result alone, so that the first word is for terminals.
    """
    _open_missing_streams()
    # Figures go to files alone; matplotlib could not even be imported where this names a backend that is not there.
    os.environ.pop("MPLBACKEND", None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    to_terminal = os.isatty(2)
    if to_terminal or not prints_results:
        _first_word.args = [2 if to_terminal else 1, f"{command()}: loading ..."]
        _first_word.start()


def said() -> None:
    """Keeps the first word back: the command has said another, or has ended."""
    _first_word.cancel()


def command() -> str:
    """The name of the command, such as `train`."""
    return Path(sys.argv[0]).stem


def _write(stream: int, sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, or the device is full
        os.write(stream, f"{sentence}\n".encode())


_first_word = threading.Timer(_SILENCE_SECONDS, _write)
_first_word.daemon = True


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends the process: an exception would be lost where one is raised in the midst of an import."""
    _write(2, f"{command()}: Stopped while loading; nothing was changed.")
    os._exit(128 + number)


def _open_missing_streams() -> None:
    """Opens standard streams that are closed: the next file would take their number, and others' words with it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))

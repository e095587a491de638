"""The start of a command: it can be stopped, and prints that it is loading, while its libraries load.

Imports the standard library alone, as this comes before imports that take seconds.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_NOTICE_SECONDS = 1.0
_OBJECTS = 10_000
"""New objects after which Python looks for those that only refer to one another; by default 700. Imports and tracing
make hundreds of thousands that stay, and looking took a sixth of their time."""


def start(*, prints_results: bool = False) -> None:
    """Catches SIGINT and SIGTERM from here on, and prints that the command is loading unless it prints something soon.

    This notice goes to a terminal or else, with the other output of the run, to the standard output.

    Args:
      prints_results: whether the command prints its result alone, so that the notice is for terminals only.
    """
    _open_missing_streams()
    gc.set_threshold(_OBJECTS)
    # Figures go to files alone; matplotlib could not even be imported where this names a backend that is not there.
    os.environ.pop("MPLBACKEND", None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    to_terminal = os.isatty(2)
    if to_terminal or not prints_results:
        _notice.args = [2 if to_terminal else 1, f"{command_name()}: loading ..."]
        _notice.start()


def cancel_notice() -> None:
    """Cancels the notice: the command has printed something else, or has ended."""
    _notice.cancel()


def command_name() -> str:
    """Returns the name of the command, such as `train`."""
    return Path(sys.argv[0]).stem


def _write(stream: int, sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, or the device is full
        os.write(stream, f"{sentence}\n".encode())


_notice = threading.Timer(_NOTICE_SECONDS, _write)
_notice.daemon = True


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends the process: an exception would be lost where one is raised in the midst of an import."""
    _write(2, f"{command_name()}: Stopped while loading; nothing was changed.")
    os._exit(128 + number)


def _open_missing_streams() -> None:
    """Opens standard streams that are closed: the next file would take their number, and the output of others."""
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

"""The start of a command: it can be stopped, and reports that it is loading, while its libraries load.

Imports the standard library alone, as this comes before imports that take seconds.
"""

import contextlib
import gc
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

TRAINING = (
    *("absl", "distrax", "flax", "gymnax", "matplotlib", "ml_collections", "optax", "orbax", "pyarrow", "rich"),
    *("scipy", "six"),
)
"""What the extra `train` installs beside what the losses need, as it is imported."""
_NOTICE_SECONDS = 1.0
_OBJECTS = 10_000
"""New objects after which Python looks for those that only refer to one another; by default 700. Imports and tracing
make hundreds of thousands that stay, and looking took a sixth of their time."""
BAD_INPUT = 2
"""The exit code."""

_program = ""


def start(*, prints_results: bool = False) -> None:
    """Catches SIGINT and SIGTERM from here on, and reports that the command loads unless it prints something soon.

    This notice goes to a terminal, with the seconds since, or else, with the other output of the run, to the standard
    output. Where packages are not installed without which no command works, the process ends with a sentence.

    Args:
      prints_results: whether the command prints its result alone, so that the notice is for terminals only.
    """
    _open_missing_streams()
    gc.set_threshold(_OBJECTS)
    # Figures go to files alone; matplotlib could not even be imported where this names a backend that is not there.
    os.environ.pop("MPLBACKEND", None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    check_packages(command_name())
    to_terminal = os.isatty(2)
    if to_terminal or not prints_results:
        _notice.begin(f"{command_name()}: loading ...", to_terminal=to_terminal)


def cancel_notice() -> None:
    """Cancels the notice: the command has printed something else, or has ended."""
    _notice.cancel()


def use_program(name: str) -> None:
    """Sets the program of which the command is a part, `haepo`; none where it is a module of `experiments`."""
    global _program  # noqa: PLW0603
    _program = name


def command_name() -> str:
    """Returns the name of the command, such as `train` or `haepo train`."""
    return f"{_program} {Path(sys.argv[0]).stem}".strip()


def call_of(command: str) -> list[str]:
    """Returns the words that call another command as this one was called."""
    return word_calls(f"python -m experiments.{command}").split()


def check_packages(command: str) -> None:
    """Ends the process with a sentence where the losses alone are installed.

    Args:
      command: its name, for the sentence.
    """
    missing = [name for name in TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        _write(
            2,
            f"{command}: Commands need more than the losses do: pip install 'haepo_jax[train]' brings what is "
            f"missing, {', '.join(missing)}.\n",
        )
        sys.exit(BAD_INPUT)


def word_calls(text: str) -> str:
    """Returns a text in which other commands are called as this one was."""
    return text.replace("python -m experiments.", f"{_program} ") if _program else text


class _Notice:
    """A line that says what is waited for, and is gone once something else is printed."""

    def __init__(self) -> None:
        self._ended, self._writing, self._width = threading.Event(), threading.Lock(), 0

    def begin(self, words: str, *, to_terminal: bool) -> None:
        """Shows the words once the first second is over: in a terminal with the time, else once."""
        show = self._show_time if to_terminal else lambda words: _write(1, f"{words}\n")
        threading.Thread(target=self._wait, args=(show, words), daemon=True).start()

    def cancel(self) -> None:
        if not self._ended.is_set():
            with self._writing:
                self._ended.set()
                if self._width:
                    _write(2, f"\r{' ' * self._width}\r")

    def _wait(self, show: Callable[[str], None], words: str) -> None:
        if not self._ended.wait(_NOTICE_SECONDS):
            show(words)

    def _show_time(self, words: str) -> None:
        started = time.monotonic() - _NOTICE_SECONDS
        while True:
            with self._writing:
                if self._ended.is_set():
                    return
                line = f"{words} {time.monotonic() - started:.0f} s"
                self._width = len(line)
                _write(2, f"\r{line}")
            self._ended.wait(1.0)


_notice = _Notice()


def _write(stream: int, text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, or the device is full
        os.write(stream, text.encode())


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends the process: an exception would be lost where one is raised in the midst of an import."""
    begin = "\r" if os.isatty(2) else ""  # over the notice
    _write(2, f"{begin}{command_name()}: Stopped while loading; nothing was changed.\n")
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

"""Stopping when SIGTERM or SIGINT asks for it: a run in its updates ends with a checkpoint, all else ends at once.

Nothing is raised from a handler: where one happens to run in foreign code, the exception is lost there. And a handler
waits for the main thread, which may be in a compiler for minutes. So a thread of its own hears of signals, notes
them for the run that collects them, and ends the process where there is none, or at the second one.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

_ASKING = (signal.SIGTERM, signal.SIGINT)
_AFTER_THIS_CHUNK = "Stopping after this chunk of updates, with a checkpoint; once more to stop at once."
_WITH_THE_OTHERS = "Stopping together with the other processes of the run; once more to stop this one at once."
_SAME_SECONDS = 0.1  # `timeout` and others send a signal twice, to the process and to its group
_WORDS_SECONDS = 1.0  # the process ends whether its last words find a reader or not
_SHOW_CURSOR = b"\x1b[?25h"  # which a progress bar hides


class _Watch:
    """The answer that a signal gets at this moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.say: Callable[[str], object] | None = None
        """Says a sentence, in a process that is watched."""
        self.waker = -1
        self.caught_up = threading.Event()
        self.received: list[int] | None = None
        """Of the run that collects signals."""
        self.newest = -math.inf
        """When the newest was heard of that the run has been left."""
        self.words = ""
        """The answer to the first of them."""
        self.left: list[Callable[[], str]] = [lambda: "the same command does what is left."]
        self.children: set[subprocess.Popen] = set()


_watch = _Watch()


def watch(say: Callable[[str], object]) -> None:
    """Makes signals end this process with exit code 128 + number, at once unless a run collects them.

    Args:
      say: prints a sentence for whoever watches.
    """
    woken, _watch.waker = os.pipe()
    os.set_blocking(_watch.waker, False)
    _watch.say = say
    for number in _ASKING:
        signal.signal(number, _heard_by_the_thread)
    signal.set_wakeup_fd(_watch.waker, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(woken, say), daemon=True).start()


def unwatch() -> None:
    """Ends the process if a signal came before this, and lets one that comes later have the system's own effect."""
    os.write(_watch.waker, b"\0")
    _watch.caught_up.wait(_WORDS_SECONDS)
    for number in _ASKING:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def collected(*, together: bool = False) -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT for a run that looks for them and stops by itself; a second one ends it at once.

    In a process that is not watched, as in a notebook, the second one has its usual effect; in a thread other than
    the main one, which cannot take signals, nothing is collected there.

    Args:
      together: the run has other processes, with which it stops.

    Yields:
      The numbers of the signals so far.
    """
    received: list[int] = []
    with _watch.lock:
        _watch.received, _watch.words = received, _WITH_THE_OTHERS if together else _AFTER_THIS_CHUNK
    on_main_thread = threading.current_thread() is threading.main_thread()
    handlers = _own_handlers(received) if _watch.say is None and on_main_thread else contextlib.nullcontext()
    try:
        with handlers:
            yield received
    finally:
        with _watch.lock:
            _watch.received = None


@contextlib.contextmanager
def leaving(what_is_left: Callable[[], str]) -> Iterator[None]:
    """Lets `what_is_left`, while it is open, end the sentence with which the process stops at once.

    Within another one it has no effect: that of a whole study speaks for each of its runs.

    Args:
      what_is_left: says what the same command will do next, such as "the same command starts again."; called from
        another thread.
    """
    _watch.left.append(what_is_left)
    try:
        yield
    finally:
        _watch.left.pop()


def run_child(command: str | Sequence[str], **options: Any) -> subprocess.CompletedProcess:
    """Runs a command to its end, as `subprocess.run` does; when this process is asked to stop, so is that one."""
    with subprocess.Popen(command, **options) as child:
        _watch.children.add(child)
        try:
            out, err = child.communicate()
        except BaseException:
            child.kill()
            raise
        finally:
            _watch.children.discard(child)
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def _heard_by_the_thread(number: int, frame: FrameType | None) -> None:
    """Does nothing; a handler must be there for the thread to be woken."""


def _hear(woken: int, say: Callable[[str], object]) -> None:
    while True:
        for number in os.read(woken, 64):
            if number in _ASKING:
                _meet(number, say)
        _watch.caught_up.set()


def _meet(number: int, say: Callable[[str], object]) -> None:
    with _watch.lock:
        if _watch.received is not None and not _watch.received:
            _watch.received.append(number)
            _watch.newest = time.monotonic()
            _say(say, lambda: _watch.words)
            return
    if time.monotonic() - _watch.newest < _SAME_SECONDS:
        return
    _say(say, lambda: f"Stopped at once; {_left()}")
    for child in list(_watch.children):
        child.terminate()
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)
    os._exit(128 + number)


def _left() -> str:
    """Says what is left by the outermost `leaving`, or else what every command says."""
    return _watch.left[min(1, len(_watch.left) - 1)]()


def _say(say: Callable[[str], object], words: Callable[[], str]) -> None:
    """Says it from a thread of its own: a pipe that nobody reads must not hold up the end."""

    def speak() -> None:
        with contextlib.suppress(Exception):
            say(words())
            sys.stdout.flush()

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    speaker.join(_WORDS_SECONDS)


@contextlib.contextmanager
def _own_handlers(received: list[int]) -> Iterator[None]:
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])
        with contextlib.suppress(OSError):
            os.write(2, f"{_watch.words}\n".encode())

    for asking in _ASKING:
        previous[asking] = signal.signal(asking, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

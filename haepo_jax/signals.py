"""Stopping when asked to: signals are collected, so that a run can end with a checkpoint."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second one has its usual effect."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        signal.signal(number, previous[number])
        print("Stopping after this chunk, with a checkpoint; once more to stop at once.", flush=True)

    for caught in (signal.SIGTERM, signal.SIGINT):
        previous[caught] = signal.signal(caught, handle)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""Stages of language models that are asked to stop."""

import contextlib

from haepo_jax.language.stages import run


def stop_after(monkeypatch, updates):
    """Lets the next stage get SIGTERM after some updates."""

    class Received(list):
        asked = 0

        def __bool__(self):
            """Asked once before each update."""
            self.asked += 1
            if self.asked > updates and not len(self):
                self.append(15)
            return len(self) > 0

    monkeypatch.setattr(run.signals, "collected", lambda: contextlib.nullcontext(Received()))

"""The figures of matplotlib behind written images."""

import contextlib

from matplotlib.figure import Figure


@contextlib.contextmanager
def kept_canvases(monkeypatch):
    """Keeps the figures that are written within it, in a list."""
    kept, savefig = [], Figure.savefig

    def keep(canvas, *arguments, **options):
        kept.append(canvas)
        return savefig(canvas, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", keep)
        yield kept

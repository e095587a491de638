"""The folder of a study: held for it alone, with the runs that it has finished."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import lock_folder_without_run
from haepo_jax.runtime import signals


@contextlib.contextmanager
def hold_folder(workdir: StrPath, finished: Callable[[Path], int]) -> Iterator[None]:
    """Holds the folder of a study; a signal that ends the process at once is answered with what is kept.

    Args:
      workdir: the folder, which is made if needed.
      finished: counts the finished runs in it; called from another thread.

    Raises:
      ConfigError: see `lock_folder_without_run`.
    """
    workdir = Path(workdir)
    with lock_folder_without_run(workdir, "a study"), signals.leaving(lambda: _describe_kept(finished(workdir))):
        yield


def _describe_kept(finished: int) -> str:
    if not finished:
        return "no run is finished yet, and the same command resumes with the first."
    kept = f"{finished} finished runs are kept" if finished > 1 else "1 finished run is kept"
    return f"{kept}, and the same command resumes with the next."

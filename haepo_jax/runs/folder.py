"""The run folder: who may use it, what run it holds, and how its files are written.

Every file is written under a temporary name, synced and renamed, so that a reader sees it whole or not at all.
Temporary names are drawn at random and made anew, never through a link; who writes one holds a lock on it, so that
what a killed process has left can be known from what another one is writing.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError as error:
    raise ImportError("haepo_jax holds its run folders by locks that Windows has not; use it there in WSL.") from error

from haepo_jax.config import ExperimentConfig, from_config_dict
from haepo_jax.errors import ConfigError, StorageError, in_the_way
from haepo_jax.runs.component_files import add_recorded_folders
from haepo_jax.runs.files import StrPath, read_record
from haepo_jax.runs.json_files import format_json
from haepo_jax.text import visible

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def lock_folder(workdir: StrPath) -> Iterator[None]:
    """Makes a folder if needed, and holds it for this process alone; one that nothing was written to is removed again.

    Args:
      workdir: the folder.

    Raises:
      ConfigError: it cannot be made or written, or another process holds it.
    """
    workdir = Path(workdir)
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        new = not (workdir / ".lock").exists()
        lock = _lock_file(workdir / ".lock")
    except BlockingIOError:
        raise ConfigError(
            f"--workdir {workdir} is in use by another run; give this one a folder of its own."
        ) from None
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it may have been moved away
                if new and [path.name for path in workdir.iterdir()] == [".lock"]:
                    (workdir / ".lock").unlink()
                    for folder in made:
                        folder.rmdir()


@contextlib.contextmanager
def lock_folder_without_run(workdir: StrPath, what: str) -> Iterator[None]:
    """Holds a folder as `lock_folder` does, unless it holds a run. Arguments and errors as of `refuse_run` too."""
    refuse_run(workdir, what)
    with lock_folder(workdir):
        yield


def refuse_run(workdir: StrPath, what: str) -> None:
    """Refuses the folder of a run to what has files of its own, which must not lie among those of the run.

    Args:
      workdir: the folder.
      what: needs it, such as "a study".

    Raises:
      ConfigError: it holds a run.
    """
    if os.path.lexists(Path(workdir) / "config.json"):
        raise ConfigError(
            f"--workdir {workdir} holds a run, and {what} needs a folder of its own; use another --workdir."
        )


def _lock_file(path: Path) -> Any:
    """Opens and locks the file; it is made anew where its last holder has removed it meanwhile."""
    while True:
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()


def load_config(workdir: StrPath) -> ExperimentConfig:
    """Reads the config of the run in this folder.

    Raises:
      ConfigError: there is no run, or its `config.json` is damaged.
    """
    add_recorded_folders(workdir)
    return from_config_dict(read_record(workdir))


def set_aside(path: Path, why: ConfigError) -> None:
    """Renames a file that cannot be used, so that a new one can take its place, and says so.

    Raises:
      StorageError: it cannot be renamed.
    """
    names = (path.with_name(f"{path.stem}.damaged-{number}{path.suffix}") for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    with storage_errors(path.parent):
        path.rename(aside)
    print(visible(f"{why} {path.name} is kept as {aside.name}, and made again."), flush=True)


@contextlib.contextmanager
def storage_errors(workdir: Path) -> Iterator[None]:
    """Turns a full disk or a failing one into a `StorageError` with one sentence.

    What stands where something else must be is a `ConfigError` that names it, as it stays until somebody moves it.
    """
    try:
        yield
    except (StorageError, ConfigError):  # it says so already
        raise
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
        if (path := _obstacle(cause)) is not None:
            raise in_the_way(path) from error
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is on a full disk" if full else f"cannot be written ({cause.strerror or cause})"
        raise StorageError(
            f"{workdir} {what}; what was written before is intact, and the same command resumes from there."
        ) from error


def _obstacle(error: OSError) -> Path | None:
    """Finds what stands where a file or a folder was to be made; None where the error does not say."""
    named = error.filename2 or error.filename
    obstacles = FileExistsError, NotADirectoryError, IsADirectoryError
    if not isinstance(error, obstacles) or not isinstance(named, str | os.PathLike):
        return None
    path = Path(named)
    for above in (*reversed(path.parents), path):  # a file among the folders above is in the way of all below it
        if os.path.lexists(above) and not above.is_dir():
            return above
    return path


def _os_error(error: BaseException | None) -> OSError | None:
    """Finds the OSError behind an exception; storage libraries wrap it, some of them in its text alone."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES):
            if os.strerror(number) in str(error):
                return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file, syncs it and renames it to `path`; on failure nothing is left."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)) as file:
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def clear_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process has left in a folder, and none that is being written."""
    for path in folder.iterdir():
        if not _TEMPORARY.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all; numbers that are not finite become null."""
    text = format_json(value)
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

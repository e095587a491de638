"""The run folder: who may use it, what run it holds, and how its files are written.

Every file is written under a temporary name, synced and renamed, so that a reader sees it whole or not at all.
"""

import contextlib
import datetime
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from haepo_jax.config import ExperimentConfig, differing_fields, from_config_dict
from haepo_jax.errors import ConfigError, StorageError

_PACKAGES = ("haepo_jax", "jax", "jaxlib", "flax", "optax", "chex", "gymnax", "distrax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def opened(workdir: Path, config: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Holds the run folder for this run alone, after making it or checking that it holds this very run.

    Args:
      workdir: the run folder.
      config: what its `config.json` holds.
      members: what its `members.json` holds.

    Raises:
      ConfigError: the folder cannot be made or written, another process uses it, or it holds a run with
        another config (the differing fields are named).
    """
    with locked(workdir):
        if (workdir / "config.json").exists():
            differences = differing_fields(read_json(workdir / "config.json"), config)
            if differences:
                raise ConfigError(
                    f"--workdir {workdir} holds a run with another config: {', '.join(differences)}; "
                    "use another folder, or the settings it was started with."
                )
        else:
            with storage_errors(workdir):
                write_json(workdir / "members.json", list(members))
                write_json(workdir / "config.json", dict(config))
        yield


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes a folder if needed, and holds it for this process alone.

    Args:
      workdir: the folder.

    Raises:
      ConfigError: it cannot be made or written, or another process holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"--workdir {workdir} is in use by another run; give this one a folder of its own."
            ) from None
        yield


def load_config(workdir: Path) -> ExperimentConfig:
    """The config of the run in this folder.

    Raises:
      ConfigError: there is no run, or its `config.json` is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigError(f"--workdir {workdir} holds no run: there is no config.json in it.")
    return from_config_dict(read_json(path))


def is_complete(workdir: Path) -> bool:
    """True once `summary.json`, which is written last, is there."""
    return (workdir / "summary.json").exists()


class Provenance:
    """One entry for each attempt: `provenance.json`, or `provenance-PROCESS.json` of the processes but the first."""

    def __init__(self, workdir: Path, devices: Sequence[jax.Device], process: int = 0) -> None:
        """Adds the entry of this attempt."""
        self._workdir = workdir
        self._path = workdir / (f"provenance-{process:05d}.json" if process else "provenance.json")
        self._attempts = read_json(self._path) if self._path.exists() else []
        self._attempts.append(
            {
                "command": [sys.executable, *sys.argv],
                "git": _git_state(),
                "packages": package_versions(),
                "python": sys.version.split()[0],
                "xla_flags": os.environ.get("XLA_FLAGS", ""),
                "compilation_cache": jax.config.jax_compilation_cache_dir,
                "devices": [str(device) for device in devices],
                "device_kind": devices[0].device_kind,
                "process": process,
                "processes": jax.process_count(),
                "host": platform.node(),
                "started": _now(),
            }
        )
        self.update(outcome="running", compile_seconds=0.0, run_seconds=0.0)

    def update(self, **entries: Any) -> None:
        """Changes the entry of this attempt and writes the file."""
        self._attempts[-1] |= entries | {"last_written": _now()}
        with storage_errors(self._workdir):
            write_json(self._path, self._attempts)

    def total(self, name: str) -> float:
        """The sum of a number over all attempts."""
        return sum(attempt.get(name, 0) for attempt in self._attempts)


@contextlib.contextmanager
def storage_errors(workdir: Path) -> Iterator[None]:
    """Turns a full disk or a failing one into a `StorageError` with one sentence."""
    try:
        yield
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is on a full disk" if full else f"cannot be written ({cause.strerror or cause})"
        raise StorageError(
            f"{workdir} {what}; what was written before is intact, and the same command goes on from there."
        ) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an exception; storage libraries wrap it, some of them in its text alone."""
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
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      ConfigError: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}.") from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def package_versions() -> Mapping[str, str]:
    """The versions of the packages that decide what a run computes."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the code that runs; None when it is not in a git checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None

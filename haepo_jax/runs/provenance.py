"""Where the numbers of a run come from: one entry for each attempt, of the command, the code and the machine."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import haepo_jax
from haepo_jax.errors import ConfigError, Interrupted
from haepo_jax.runs.files import provenance_path, read_attempts
from haepo_jax.runs.folder import set_aside, storage_errors, write_json
from haepo_jax.runtime.precision import name_precision

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "gymnax", "distrax", "orbax-checkpoint", "numpy")
_LIBRARIES = ("brax", "craftax", "jumanji", "mujoco", "mujoco-mjx", "navix", "playground", "popjym")
_RUNNING = "running"


class Provenance:
    """One entry for each attempt: `provenance.json`, or `provenance-PROCESS.json` of the processes but the first."""

    def __init__(
        self,
        workdir: Path,
        devices: Sequence[jax.Device],
        process: int = 0,
        components: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds the entry of this attempt.

        Args:
          workdir: the run folder.
          devices: of this process.
          process: its number.
          components: those from outside, by what names them.
        """
        self._workdir = workdir
        self._path = provenance_path(workdir, process)
        self._attempts = self._read_earlier_attempts(process)
        self._attempts.append(
            {
                "command": [sys.executable, *sys.argv],
                "git": _read_git_state(),
                "packages": list_package_versions(),
                "components": components or {},
                "python": sys.version.split()[0],
                "matmul_precision": name_precision(),
                "xla_flags": os.environ.get("XLA_FLAGS", ""),
                "compilation_cache": jax.config.jax_compilation_cache_dir,
                "devices": [str(device) for device in devices],
                "device_kind": devices[0].device_kind,
                "process": process,
                "processes": jax.process_count(),
                "host": platform.node(),
                "started": _format_now(),
            }
        )
        self.update(outcome=_RUNNING, compile_seconds=0.0, run_seconds=0.0)

    def _read_earlier_attempts(self, process: int) -> list[dict[str, Any]]:
        """Reads the attempts before this one. What cannot be read is set aside: no number of the run depends on it."""
        if not os.path.lexists(self._path):
            return []
        try:
            attempts = read_attempts(self._workdir, process)
        except ConfigError as error:
            set_aside(self._path, error)
            return []
        # This attempt holds the folder, so that one which has noted no end was killed, or failed.
        return [
            attempt | ({"outcome": "broken off"} if attempt["outcome"] == _RUNNING else {}) for attempt in attempts
        ]

    def update(self, **entries: Any) -> None:
        """Changes the entry of this attempt and writes the file."""
        self._attempts[-1] |= entries | {"last_written": _format_now()}
        with storage_errors(self._workdir):
            write_json(self._path, self._attempts)

    def stop(self, number: int, done: int, total: int, **entries: Any) -> Interrupted:
        """Notes that a signal has ended this attempt early, and returns what is to be raised.

        Args:
          number: of the signal.
          done: updates recorded.
          total: updates of the run.
          **entries: see `update`.
        """
        self.update(outcome=signal.Signals(number).name, **entries)
        return Interrupted(number, done, total)

    def total(self, name: str) -> float:
        """Adds a number up over all attempts."""
        return sum(attempt.get(name, 0) for attempt in self._attempts)


def _format_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def list_package_versions() -> Mapping[str, str]:
    """Lists the versions of the packages that decide what a run computes, of those that are installed."""
    versions = {"haepo_jax": haepo_jax.__version__}
    for name in _PACKAGES + _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _read_git_state() -> dict[str, Any] | None:
    """Reads commit and dirtiness of the code that runs; None when it is not in a git checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None

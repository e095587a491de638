"""The provenance of a sweep: where it runs, by how many processes, and for how long."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haepo_jax.runs.files import provenance_path, read_attempts

Attempt = Mapping[str, Any]
"""An entry of a file of provenance."""


def read_attempts_so_far(workdir: Path, process: int = 0) -> Sequence[Attempt]:
    """Reads the attempts at a sweep by a process, by default the first; none where the file is missing."""
    return read_attempts(workdir, process) if os.path.lexists(provenance_path(workdir, process)) else []


def describe_provenance(workdir: Path, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """Describes all attempts, and each process of the newest where it has several."""
    if not attempts:
        return {}
    newest = attempts[-1]
    seconds = sum(attempt["compile_seconds"] + attempt["run_seconds"] for attempt in attempts)
    return {
        "attempts": len(attempts),
        "started": attempts[0]["started"],
        "last written": newest["last_written"],
        "outcome": newest["outcome"],
        "minutes, compilation included": round(seconds / 60, 1),
        **(
            _describe_processes(workdir, attempts)
            if newest["processes"] > 1
            else {"device": _describe_devices(newest)}
        ),
        "commit": ", ".join(sorted({_describe_commit(attempt["git"]) for attempt in attempts})),
        "python": newest["python"],
        "packages": newest["packages"],
    }


def _describe_processes(workdir: Path, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """A line for each process of the newest attempt."""
    newest, before = attempts[-1], attempts[-2]["last_written"] if len(attempts) > 1 else ""
    lines: dict[str, Any] = {"processes": newest["processes"], "process 0": _describe_place(newest)}
    for process in range(1, newest["processes"]):
        # One that has not begun yet may have left entries of the attempts before.
        own = [attempt for attempt in read_attempts_so_far(workdir, process) if attempt["started"] >= before]
        lines[f"process {process}"] = _describe_place(own[-1]) if own else "has not written yet"
    return lines


def _describe_place(attempt: Attempt) -> str:
    return f"{attempt.get('host', 'a host')}, {_describe_devices(attempt)}"


def _describe_devices(attempt: Attempt) -> str:
    return f"{len(attempt['devices'])} x {attempt['device_kind']}"


def _describe_commit(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "not in a checkout"
    return f"{git.get('commit')}{', with changes' if git.get('dirty') else ''}"

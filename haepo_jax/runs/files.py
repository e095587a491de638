"""The JSON files of a run folder, read and checked: what comes back has the types that its readers count on.

A file that is missing, damaged, unreadable or of another type is one sentence that names it. Nothing is written here.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.runs.json_files import find_mismatch, read_json
from haepo_jax.runs.older_versions import FIRST, upgrade_config, upgrade_summary

StrPath = str | os.PathLike[str]
"""A folder, as text or as a path."""

_NUMBER = int | float
_MOST_SECONDS = 1e11  # three thousand years: sums of such numbers stay finite
_CLOCK = {"compile_seconds": _NUMBER, "run_seconds": _NUMBER}
_MEMBER = {"index": int, "seed": int, "settings": dict}
_PROGRAM = {"fingerprint": str, "jax": str}
_COMPONENT = {"settings": [str], "sha256": str | None, "file": str | None, "folder": str | None}
_PLACEMENT = {"members_per_device": dict, "memory": dict, "trajectory_devices": int | None}
_BEFORE = {"piece_rows": 128, "unrolled_steps": 1}  # of runs that did not note them yet
_ATTEMPT = {
    "command": [str],
    "git": dict | None,
    "packages": dict,
    "python": str,
    "devices": [str],
    "device_kind": str,
    "processes": int,
    "started": str,
    "last_written": str,
    "outcome": str,
    **_CLOCK,
}
_STAGE_SUMMARY = {"stage": str, "status": str, "updates": int, "tokens": int, "wall_clock": _CLOCK}
_SUMMARY = {
    "members": [
        {
            "member": int,
            "seed": int,
            "settings": dict,
            "final_return": _NUMBER | None,
            "best_return": _NUMBER | None,
            "env_steps": int,
            "status": str,
            "diverged_at": int | None,
        }
    ],
    "final_updates": int,
    "num_updates": int,
    "env_steps": int,
    "env_steps_per_second": _NUMBER | None,
    "wall_clock": _CLOCK,
    "rows_with_returns_sum_not_positive": int,
}


def read_record(workdir: StrPath) -> dict[str, Any]:
    """Reads `config.json`, not yet validated as a configuration.

    Raises:
      ConfigError: there is no run in the folder, or the file is damaged.
    """
    _check_there(workdir, "config.json")
    return upgrade_config(read_json(Path(workdir) / "config.json", dict))


def read_members(workdir: StrPath) -> list[dict[str, Any]]:
    """Reads `members.json`: the members in order, each with its `seed`, its swept `settings` and its `group`.

    Raises:
      ConfigError: there is no run in the folder, or the file is damaged.
    """
    _check_there(workdir, "members.json")
    path = Path(workdir) / "members.json"
    members = read_json(path, [_MEMBER])
    if [member["index"] for member in members] != list(range(len(members))) or not members:
        raise ConfigError(f"{path} is damaged: it does not list members 0, 1, 2 and so on.")
    # Those of a language model have no group, as they are alone.
    members = [{"group": "all"} | member for member in members]
    names = members[0]["settings"].keys()
    if any(member["settings"].keys() != names or not isinstance(member["group"], str) for member in members):
        raise ConfigError(f"{path} is damaged: its members differ in which settings they have.")
    return members


def find_exchange_interval(record: Mapping[str, Any]) -> Any:
    """Finds after how many updates members copy one another, by a `config.json`; None where they never do."""
    pbt = record.get("pbt")
    return pbt.get("every") if isinstance(pbt, dict) else None


def read_identity(workdir: StrPath) -> dict[str, Any] | None:
    """Reads `run.json`: the id of the run, what its numbers follow from, and the versions that began it.

    Returns:
      Its `run`, `numbers`, `haepo_jax`, `programs` (the fingerprint of each group's update with the versions that
      computed it) and `components`; None where there is no `run.json`.

    Raises:
      ConfigError: it is damaged.
    """
    path = Path(workdir) / "run.json"
    if not os.path.lexists(path):
        return None
    identity = read_json(path, {"run": str | None, "numbers": dict})
    identity = {"haepo_jax": FIRST, "programs": {}, "components": {}} | identity
    for group, kind in (("programs", _PROGRAM), ("components", _COMPONENT)):
        each = dict.fromkeys(identity[group] if isinstance(identity[group], dict) else (), kind)
        if wrong := find_mismatch(identity, {"haepo_jax": str, group: each}, ""):
            raise ConfigError(f"{path} is damaged: {wrong}.")
    identity["programs"] = {name: {"haepo_jax": FIRST} | program for name, program in identity["programs"].items()}
    return identity


def read_placement(workdir: StrPath, groups: Sequence[str]) -> dict[str, Any]:
    """Reads `placement.json`: how members lie on devices, and the memory that each group's program holds.

    Args:
      workdir: the run folder.
      groups: the names of the run's groups.

    Raises:
      ConfigError: it is missing or damaged, or of a run with other groups.
    """
    path = Path(workdir) / "placement.json"
    placement = {name: dict.fromkeys(groups, value) for name, value in _BEFORE.items()} | read_json(path, _PLACEMENT)
    shape = {"members_per_device": dict.fromkeys(groups, int), "memory": dict.fromkeys(groups, str)}
    shape |= {name: dict.fromkeys(groups, int) for name in _BEFORE}
    if wrong := find_mismatch(placement, shape, ""):
        raise ConfigError(f"{path} is damaged, or of another run: {wrong}.")
    numbers = [*placement["members_per_device"].values(), placement["trajectory_devices"] or 1]
    if not all(isinstance(number, int) and number >= 1 for number in numbers):
        raise ConfigError(f"{path} is damaged: it holds numbers of members or devices below 1.")
    return placement


def read_attempts(workdir: StrPath, process: int = 0) -> list[dict[str, Any]]:
    """Reads the provenance of a process: its attempts, the oldest first.

    Raises:
      ConfigError: it is missing or damaged.
    """
    path = provenance_path(Path(workdir), process)
    attempts = read_json(path, [_ATTEMPT])
    _check_clock(path, *attempts)
    return attempts


def provenance_path(workdir: Path, process: int = 0) -> Path:
    """Returns where a process keeps its provenance."""
    return workdir / (f"provenance-{process:05d}.json" if process else "provenance.json")


def read_summary(workdir: StrPath) -> dict[str, Any]:
    """Reads the `summary.json` of a run, or of a stage of a language model.

    Raises:
      ConfigError: it is missing or damaged, or is of other members than the run has.
    """
    path = Path(workdir) / "summary.json"
    summary = upgrade_summary(read_json(path, dict))
    of_stage = "stage" in summary
    if wrong := find_mismatch(summary, _STAGE_SUMMARY if of_stage else _SUMMARY, ""):
        raise ConfigError(f"{path} is damaged: {wrong}.")
    _check_clock(path, summary["wall_clock"])
    if not of_stage:
        described = [(member["member"], member["seed"], member["settings"]) for member in summary["members"]]
        if described != [(m["index"], m["seed"], m["settings"]) for m in read_members(workdir)]:
            raise ConfigError(f"{path} is of another run: its members are not those of members.json.")
    return summary


def is_complete(workdir: StrPath) -> bool:
    """Returns whether a whole `summary.json`, which is written last, is there."""
    try:
        read_summary(workdir)
    except ConfigError:
        return False
    return True


def _check_there(workdir: StrPath, name: str) -> None:
    try:
        (Path(workdir) / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"--workdir {workdir} holds no run: there is no {name} in it.") from None
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} cannot be read: {error.strerror}.") from error


def _check_clock(path: Path, *clocks: Mapping[str, Any]) -> None:
    for clock in clocks:
        for name in _CLOCK:
            if not 0 <= clock[name] <= _MOST_SECONDS:
                raise ConfigError(f"{path} is damaged: {name} is {clock[name]:g}, which no run can take.")

"""The JSON files of a run folder, read and checked: what comes back has the types that its readers count on.

A file that is missing, damaged, unreadable or of another type is one sentence that names it. Nothing is written here.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.runs.older_versions import FIRST, upgrade_config, upgrade_summary

StrPath = str | os.PathLike[str]
"""A folder, as text or as a path."""

Shape = Any
"""What a value of JSON must be: a type or a union of types; `[shape]`, a list of such values; or `{name: shape}`, an
object that has these names and may have others."""

_MOST_LEVELS = 100
_NUMBER = int | float
_MOST_SECONDS = 1e11  # three thousand years: sums of such numbers stay finite
_CLOCK = {"compile_seconds": _NUMBER, "run_seconds": _NUMBER}
_MEMBER = {"index": int, "seed": int, "settings": dict}
_PROGRAM = {"fingerprint": str, "jax": str}
_COMPONENT = {"settings": [str], "sha256": str | None, "file": str | None, "folder": str | None}
_PLACEMENT = {"members_per_device": dict, "memory": dict, "trajectory_devices": int | None}
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


def read_json(path: Path, shape: Shape = object) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      shape: what its value must be; see `Shape`.

    Raises:
      ConfigError: it is missing, no file, cannot be read, or is damaged.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path} is {'not a file' if path.exists() else 'missing'}.")
        value = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_parse_finite,
            parse_int=_parse_integer,
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError:
        raise ConfigError(f"{path} is damaged: it is nested too deep.") from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}.") from error
    wrong = "it is nested too deep" if _is_deep(value) else _find_mismatch(value, shape, "")
    if wrong:
        raise ConfigError(f"{path} is damaged: {wrong}.")
    return value


def format_json(value: Any) -> str:
    """Returns a value as JSON text, in which numbers that are not finite are null, as JSON has no others."""
    return json.dumps(replace_non_finite(value), indent=1, allow_nan=False) + "\n"


def replace_non_finite(value: Any) -> Any:
    """Returns the same nested lists and dictionaries with None for every number that is infinite or NaN.

    Example:
      >>> replace_non_finite({"best": [1.0, float("inf")], "final": float("nan")})
      {'best': [1.0, None], 'final': None}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: replace_non_finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return value


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
        if wrong := _find_mismatch(identity, {"haepo_jax": str, group: each}, ""):
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
    placement = read_json(path, _PLACEMENT)
    shape = {"members_per_device": dict.fromkeys(groups, int), "memory": dict.fromkeys(groups, str)}
    if wrong := _find_mismatch(placement, shape, ""):
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
    if wrong := _find_mismatch(summary, _STAGE_SUMMARY if of_stage else _SUMMARY, ""):
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


def _is_deep(value: Any) -> bool:
    """Says whether a value is nested deeper than what walks through it can follow; none of a run's files is."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        inside = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inside for item in items]
    return bool(level)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{quoted(text, 20)} is larger than any number of 64 bits")
    return number


def _parse_integer(text: str) -> int:
    _parse_finite(text)
    return int(text)


def _check_clock(path: Path, *clocks: Mapping[str, Any]) -> None:
    for clock in clocks:
        for name in _CLOCK:
            if not 0 <= clock[name] <= _MOST_SECONDS:
                raise ConfigError(f"{path} is damaged: {name} is {clock[name]:g}, which no run can take.")


def _find_mismatch(value: Any, shape: Shape, place: str) -> str:
    """Says where a value is not of a shape; nothing where it is."""
    named = place or "it"
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{named} is {_describe_kind(value)}, not an object"
        missing = [name for name in shape if name not in value]
        if missing:
            return f"{named} has no {missing[0]}"
        inside = ((value[name], part, f"{place}.{name}" if place else name) for name, part in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return f"{named} is {_describe_kind(value)}, not a list"
        inside = ((item, shape[0], f"{place}[{number}]") for number, item in enumerate(value))
    else:
        fits = isinstance(value, shape) and (shape in (object, bool) or not isinstance(value, bool))
        return "" if fits else f"{named} is {_describe_kind(value)}, not {_describe_shape(shape)}"
    return next((wrong for item, part, where in inside if (wrong := _find_mismatch(item, part, where))), "")


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _describe_kind(value: Any) -> str:
    return _KINDS.get(type(value), "null")


def _describe_shape(shape: Shape) -> str:
    kinds = getattr(shape, "__args__", (shape,))
    kinds = [kind for kind in kinds if not (kind is int and float in kinds)]
    return " or ".join(_KINDS.get(kind, "null") for kind in kinds)

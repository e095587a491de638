"""Files of a run that an older version of the package has written, brought to what this version reads.

Each kind of file has its steps, the oldest first, below the version that it came with. A step changes what a file of
before that version holds, and leaves all others as they are; nothing is written. A change of numbers is no step: it
raises `haepo_jax.runs.identity.NUMBERS`.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from haepo_jax.methods import METHODS

FIRST = "0.1.0"
"""The version of runs whose `run.json` names none."""


class _Renamed(NamedTuple):
    """An entry that has another name since, and maybe another meaning."""

    before: str
    now: str
    convert: Callable[[Any], Any] | None = None
    """From the value of before to that of now; None where it stayed."""


_IN_CHECKPOINTS = (
    # 0.2.0
    _Renamed("alive", "diverged", operator.invert),
    _Renamed("death_update", "diverged_at"),
)
_IN_SUMMARIES = (
    # 0.2.0
    _Renamed("death_update", "diverged_at"),
)


def upgrade_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """Brings what `config.json` holds to this version; a method brings its own settings, as it says.

    A setting that came later and is missing has its default, in all that reads a config.
    """
    name = record.get("algorithm")
    if not isinstance(name, str) or name not in METHODS or not isinstance(record.get(name), dict):
        return dict(record)
    upgrade = METHODS[name].upgrade
    return dict(record) if upgrade is None else {**record, name: upgrade(record[name])}


def upgrade_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Brings what `summary.json` holds to this version."""
    members = summary.get("members")
    if not isinstance(members, list):
        return dict(summary)
    return {**summary, "members": [_rename(m, _IN_SUMMARIES) if isinstance(m, dict) else m for m in members]}


def upgrade_structure(structure: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the structure of a checkpoint's arrays to this version: those of `upgrade_arrays`."""
    return _rename(structure, tuple(step._replace(convert=None) for step in _IN_CHECKPOINTS))


def upgrade_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the arrays of a checkpoint, by name, to this version."""
    return _rename(arrays, _IN_CHECKPOINTS)


def _rename(entries: Mapping[str, Any], steps: tuple[_Renamed, ...]) -> dict[str, Any]:
    named = dict(entries)
    for step in steps:
        if step.before in named and step.now not in named:
            value = named.pop(step.before)
            named[step.now] = value if step.convert is None else step.convert(value)
    return named

"""Files of a run that an older version of the package has written, brought to what this version reads.

Each kind of file has its steps, the oldest first, below the version that it came with. A step changes what a file of
before that version holds, and leaves all others as they are; nothing is written. A change of numbers is no step: it
raises `haepo_jax.runs.identity.NUMBERS`.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from haepo_jax.config.settings import FIELDS
from haepo_jax.methods import METHODS

FIRST = "0.1.0"
"""The version of runs whose `run.json` names none."""

_SETTINGS = "settings."
_TRACED = {
    f"{_SETTINGS}{name}": np.asarray(field.default, np.int32 if isinstance(field.default, int) else np.float32)
    for name, field in FIELDS.items()
    if field.metadata.get("traced") and field.default is not None
}
"""The traced settings by the names of their arrays in checkpoints, each with its default."""


_AS_BEFORE: Mapping[str, Any] = {"min_batch_steps": None, "exploration": {"persistences": []}}
"""Settings of an experiment that came after 0.2.0, as its runs went, where the default is another."""


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

    A setting that came later and is missing has its default, in all that reads a config, unless that would change the
    numbers of a run of before.
    """
    upgraded = dict(record)
    for name, method in METHODS.items():
        if method.upgrade is not None and isinstance(record.get(name), dict):
            upgraded[name] = method.upgrade(record[name])
    return {**_AS_BEFORE, **upgraded} if "env" in record else upgraded  # a language model has none


def upgrade_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Brings what `summary.json` holds to this version."""
    members = summary.get("members")
    if not isinstance(members, list):
        return dict(summary)
    return {**summary, "members": [_rename(m, _IN_SUMMARIES) if isinstance(m, dict) else m for m in members]}


def upgrade_structure(structure: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the structure of a checkpoint's arrays to this version: those of `upgrade_arrays`."""
    renamed = _rename(structure, tuple(step._replace(convert=None) for step in _IN_CHECKPOINTS))
    return renamed | {name: [str(default.dtype), []] for name, default in _missing_settings(structure).items()}


def upgrade_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the arrays of a checkpoint, by name, to this version.

    A traced setting that came later and is missing has its default for every member, as in all that reads a config.
    """
    renamed = _rename(arrays, _IN_CHECKPOINTS)
    return renamed | {name: _repeat(default, arrays) for name, default in _missing_settings(arrays).items()}


def _missing_settings(entries: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Finds the traced settings that came after this checkpoint of an experiment, with their defaults."""
    of_experiment = any(name.startswith(_SETTINGS) for name in entries)  # one of a language model holds none
    return {name: default for name, default in _TRACED.items() if of_experiment and name not in entries}


def _repeat(value: np.ndarray, arrays: Mapping[str, Any]) -> Any:
    """Repeats a number for each row of these arrays, where they lie."""
    like = next(iter(arrays.values()))
    if isinstance(like, np.ndarray):
        return np.full(like.shape[0], value)
    return jnp.full(like.shape[0], value, value.dtype, device=like.sharding)


def _rename(entries: Mapping[str, Any], steps: tuple[_Renamed, ...]) -> dict[str, Any]:
    named = dict(entries)
    for step in steps:
        if step.before in named and step.now not in named:
            value = named.pop(step.before)
            named[step.now] = value if step.convert is None else step.convert(value)
    return named

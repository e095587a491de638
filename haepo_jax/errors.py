"""Errors that are the user's to mend, told in one sentence. Command lines turn them into an exit code."""

import difflib
from collections.abc import Sequence


class ConfigError(ValueError):
    """A setting, a flag or a folder that cannot be used; the message names it and says what is allowed."""


class StorageError(OSError):
    """The run folder cannot be written any more; what was written before is intact."""


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint `; did you mean X?` with the known names nearest to `name`, or nothing when none is near.

    Example:
      >>> nearest("CartPole-v2", ["CartPole-v1", "Acrobot-v1"])
      '; did you mean CartPole-v1?'
    """
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(folded[match] for match in near)}?" if near else ""


def choose(what: str, value: object, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`, else a `ConfigError` that names it and them, or the nearest of many."""
    if isinstance(value, str) and value in choices:
        return value
    near = nearest(str(value), choices)
    allowed = near if near and len(choices) > 8 else f"; allowed: {', '.join(choices)}."
    raise ConfigError(f"{what} {value!r} is not known{allowed}")

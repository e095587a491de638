"""The members of a run that have ended, for its summary and for the report of a running sweep."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def find_ended(
    config: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    *,
    updates: np.ndarray,
    env_steps: np.ndarray,
    diverged: np.ndarray,
) -> np.ndarray:
    """Finds the members of which nothing more will come.

    Args:
      config: the `config.json` of the run.
      members: its `members.json`.
      updates: `[members]` updates recorded.
      env_steps: `[members]` environment steps after the last of them.
      diverged: `[members]` boolean.

    Returns:
      `[members]` boolean, True where it has diverged, done all its updates or used up its environment steps.
    """
    most_updates, most_steps = (
        np.array([_find_limit(config, member["settings"], name) for member in members])
        for name in ("num_updates", "max_env_steps")
    )
    return diverged | (updates >= most_updates) | (env_steps >= most_steps)


def _find_limit(config: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> float:
    limit = settings.get(name, config.get(name))
    return math.inf if limit is None else limit

"""The folder of a run, read whether it is complete or still at work.

A *point* is a combination of the swept settings; its members differ in their seeds alone. A run without swept settings
has one point.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haepo_jax.config.checks import flatten
from haepo_jax.errors import ConfigError
from haepo_jax.reports.sweep.bins import Setting, find_distinct, make_setting
from haepo_jax.runs.endings import find_ended
from haepo_jax.runs.files import StrPath, is_complete, read_members, read_record
from haepo_jax.runs.metrics.reader import read_rows


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The records of a run, with swept settings or without.

    Attributes:
      config: its `config.json`.
      points: the settings of each point, by dotted name.
      settings: the swept settings.
      seed: `[members]` of each.
      point: `[members]` index of each member's point.
      groups: the names of the compiled programs.
      group: `[members]` index of each member's group.
      returns: `[members, updates]` mean return of an update's episodes, NaN where there is no row.
      env_steps: `[members, updates]` environment steps so far, 0 where there is no row.
      rows: `[members]` updates recorded.
      diverged: `[members]` whether the member has diverged.
      done: `[members]` whether nothing more will come of it.
    """

    config: Mapping[str, Any]
    points: tuple[Mapping[str, Any], ...]
    settings: tuple[Setting, ...]
    seed: np.ndarray
    point: np.ndarray
    groups: tuple[str, ...]
    group: np.ndarray
    returns: np.ndarray
    env_steps: np.ndarray
    rows: np.ndarray
    diverged: np.ndarray
    done: np.ndarray

    @property
    def begun(self) -> np.ndarray:
        """`[members]` whether it has a row."""
        return self.rows > 0

    @property
    def varied(self) -> tuple[Setting, ...]:
        """The settings of more than one level."""
        return tuple(setting for setting in self.settings if len(setting.labels) > 1)


def read_sweep(workdir: StrPath) -> Sweep:
    """Reads the records of a run.

    Args:
      workdir: its folder, also while it runs.

    Raises:
      ConfigError: there is no run in the folder, or one of a language model; it has written nothing yet, or a file of
        it is damaged.
    """
    config, members = read_record(workdir), read_members(workdir)
    if "env" not in config:
        raise ConfigError(
            f"--workdir {workdir} holds a stage of a language model; the page is made of runs of train and sweep."
        )
    read = read_rows(workdir, ("env_steps", "diverged", "episode_return"))
    if not read.member.size:
        raise ConfigError(
            f"--workdir {workdir} holds a run that has written no metrics yet; ask again after its first updates."
        )
    point, points = find_distinct([member["settings"] for member in members])
    group, groups = find_distinct([member["group"] for member in members])
    returns, env_steps = read.by_update("episode_return", np.float32(np.nan)), read.by_update("env_steps", 0)
    rows, diverged = read.count, read.has_diverged
    done = find_ended(config, members, updates=rows, env_steps=env_steps.max(axis=1), diverged=diverged)
    if is_complete(workdir) and not done.all():
        missing = np.flatnonzero(~done)
        raise ConfigError(
            f"{Path(workdir) / 'metrics'} has lost rows: the run is complete, but {missing.size} of its members, from "
            f"{missing[0]} on, have none of their last updates."
        )
    choices = config.get("sweep", {})
    return Sweep(
        config=config,
        points=tuple(points),
        settings=tuple(make_setting(name, [p[name] for p in points], choices.get(name)) for name in points[0]),
        seed=np.array([member["seed"] for member in members]),
        point=point,
        groups=tuple(groups),
        group=group,
        returns=returns,
        env_steps=env_steps,
        rows=rows,
        diverged=diverged,
        done=done,
    )


def find_default_point(sweep: Sweep) -> int | None:
    """Returns the point whose settings are the config's own; None where the sweep does not hold it."""
    own = flatten(sweep.config)
    return next((k for k, point in enumerate(sweep.points) if all(own.get(n) == v for n, v in point.items())), None)


def is_grid(sweep: Sweep) -> bool:
    """Returns whether the points are all combinations of given values, and neither drawn nor listed one by one."""
    search = sweep.config.get("search", {})
    return search.get("num_samples") is None and not search.get("points")


def counts_steps(sweep: Sweep) -> bool:
    """Returns whether members stop at a number of environment steps, which curves are then drawn against."""
    return sweep.config.get("max_env_steps") is not None

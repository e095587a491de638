"""What the folder of a sweep holds, whether the sweep is complete or still running.

A *point* is a combination of the swept settings; its members differ in their seeds alone.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset

from haepo_jax.analysis.endings import ended
from haepo_jax.analysis.metrics import read_members
from haepo_jax.config_checks import flatten
from haepo_jax.errors import ConfigError
from haepo_jax.run_folder import is_complete, read_json
from haepo_jax.sweep_report.levels import Setting, distinct, make_setting

_COLUMNS = {
    "member": pa.int32(),
    "update": pa.int32(),
    "env_steps": pa.int64(),
    "diverged": pa.bool_(),
    "episode_return": pa.float32(),
}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep has recorded so far.

    Attributes:
      config: its `config.json`.
      points: the settings of each point, by dotted name.
      settings: the swept settings.
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


def read_sweep(workdir: Path) -> Sweep:
    """What a sweep has recorded so far.

    Args:
      workdir: its folder, also while it runs.

    Raises:
      ConfigError: there is no sweep in the folder, it has written nothing yet, or a file of it is damaged.
    """
    for name in ("config.json", "members.json"):
        if not (workdir / name).is_file():
            raise ConfigError(f"--workdir {workdir} holds no run: there is no {name} in it.")
    config, members = read_json(workdir / "config.json"), read_members(workdir)
    if not members or not members[0]["settings"]:
        raise ConfigError(
            f"--workdir {workdir} holds a run without swept settings; a report is made of the folder of a sweep."
        )
    columns = _read_columns(workdir)
    if not len(columns["member"]):
        raise ConfigError(
            f"--workdir {workdir} holds a sweep that has written no metrics yet; ask again after its first updates."
        )
    point, points = distinct([member["settings"] for member in members])
    group, groups = distinct([member["group"] for member in members])
    member, update = columns["member"], columns["update"]
    if member.max() >= len(members):
        raise ConfigError(
            f"{workdir / 'metrics'} has rows of member {member.max()}, but members.json has {len(members)} members: "
            "one of them is of another sweep."
        )
    shape = (len(members), int(update.max()) + 1)
    returns, env_steps = np.full(shape, np.nan, np.float32), np.zeros(shape, np.int64)
    returns[member, update] = columns["episode_return"]
    env_steps[member, update] = columns["env_steps"]
    rows = np.bincount(member, minlength=len(members))
    diverged = np.zeros(len(members), bool)
    diverged[member[columns["diverged"]]] = True
    done = ended(config, members, updates=rows, env_steps=env_steps.max(axis=1), diverged=diverged)
    choices = config.get("sweep", {})
    return Sweep(
        config=config,
        points=tuple(points),
        settings=tuple(make_setting(name, [p[name] for p in points], choices.get(name)) for name in points[0]),
        point=point,
        groups=tuple(groups),
        group=group,
        returns=returns,
        env_steps=env_steps,
        rows=rows,
        diverged=diverged,
        done=done | is_complete(workdir),
    )


def default_point(sweep: Sweep) -> int | None:
    """The point whose settings are the config's own; None where the sweep does not hold it."""
    own = flatten(sweep.config)
    return next((k for k, point in enumerate(sweep.points) if all(own.get(n) == v for n, v in point.items())), None)


def is_grid(sweep: Sweep) -> bool:
    """Whether the points are all combinations of given values, and neither drawn nor listed one by one."""
    search = sweep.config.get("search", {})
    return search.get("num_samples") is None and not search.get("points")


def counts_steps(sweep: Sweep) -> bool:
    """Whether members stop at a number of environment steps, which curves are then drawn against."""
    return sweep.config.get("max_env_steps") is not None


def _read_columns(workdir: Path) -> dict[str, np.ndarray]:
    """The rows of all parts, each column `[rows]`."""
    schema = pa.schema(_COLUMNS)  # as the parts of groups may differ in the columns that are not read here
    if not (workdir / "metrics").is_dir():
        return {name: np.empty(0, int) for name in _COLUMNS}
    try:
        table = pyarrow.dataset.dataset(workdir / "metrics", format="parquet", schema=schema).to_table()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{workdir / 'metrics'} cannot be read: {str(error).splitlines()[0]} (while the sweep runs, ask again)."
        ) from error
    missing = [name for name in ("member", "update", "env_steps") if table[name].null_count]
    if missing:
        raise ConfigError(f"{workdir / 'metrics'} is not that of a sweep: it has rows without {', '.join(missing)}.")
    table = table.set_column(3, "diverged", pa.compute.fill_null(table["diverged"], False))
    return {name: table[name].to_numpy() for name in _COLUMNS}

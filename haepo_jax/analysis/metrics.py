"""Reading the metrics of a run folder."""

from pathlib import Path

import numpy as np
import pyarrow.dataset

from haepo_jax.recording import shown
from haepo_jax.run_folder import read_json


def read_metric(workdir: Path, name: str) -> np.ndarray:
    """One metric of a run.

    Args:
      workdir: the run folder.
      name: a column of `metrics/`.

    Returns:
      `[members, updates]`; once a member has stopped, NaN, or for `env_steps` what it took in all.

    Raises:
      KeyError: the run's algorithm does not write this metric.
    """
    rows = pyarrow.dataset.dataset(workdir / "metrics", format="parquet")
    if name not in rows.schema.names:
        raise KeyError(f"{workdir} has no metric {name}; it has {', '.join(rows.schema.names)}.")
    table = rows.to_table(["member", "update", name])
    member, update, values = (table[column].to_numpy() for column in ("member", "update", name))
    result = np.full((member.max() + 1, update.max() + 1), np.nan, dtype=np.result_type(values, np.float32))
    result[member, update] = values
    if name == "env_steps":
        last = np.isfinite(result).sum(axis=1) - 1
        result = np.take_along_axis(result, np.minimum(np.arange(result.shape[1]), last[:, None]), axis=1)
    return result


def read_members(workdir: Path) -> list[dict]:
    """The members of a run in order, each with its `seed` and swept `settings`."""
    return read_json(workdir / "members.json")


def by_setting(members: list[dict]) -> dict[str, list[int]]:
    """The indices of members that share their swept settings, under a label of those settings."""
    groups: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        label = ", ".join(
            f"{name}={value:g}" if isinstance(value, int | float) else f"{name}={shown(value)}"
            for name, value in member["settings"].items()
        )
        groups.setdefault(label, []).append(index)
    return groups

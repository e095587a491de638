"""The numbers that a run ends with."""

from pathlib import Path
from typing import Any

import numpy as np

from haepo_jax.analysis.metrics import read_members, read_metric

FINAL_UPDATES = 10
"""The final return of a member is its mean over this many updates, its last."""


def summarize(
    workdir: Path, *, death_updates: np.ndarray, compile_seconds: float, run_seconds: float
) -> dict[str, Any]:
    """What `summary.json` holds.

    Args:
      workdir: a run folder with all its metrics.
      death_updates: `[members]` update at which a member diverged, -1 for those that did not.
      compile_seconds: time spent compiling, over all attempts.
      run_seconds: time spent training, over all attempts.

    Returns:
      For each member its final return (mean over its last 10 updates; None once diverged), its best (largest
      of an update), its environment steps and its status; the time and the environment steps, in all and a second.
    """
    returns = read_metric(workdir, "episode_return")
    env_steps = read_metric(workdir, "env_steps")[:, -1]
    members = []
    for index, member in enumerate(read_members(workdir)):
        series, death = returns[index][~np.isnan(returns[index])], death_updates[index]
        diverged = bool(death >= 0)
        members.append(
            {
                "member": index,
                "seed": member["seed"],
                "settings": member["settings"],
                "final_return": None if diverged else float(series[-FINAL_UPDATES:].mean()),
                "best_return": float(series.max()),
                "env_steps": int(env_steps[index]),
                "status": "diverged" if diverged else "ok",
                "death_update": int(death) if diverged else None,
            }
        )
    return {
        "members": members,
        "final_updates": min(FINAL_UPDATES, returns.shape[1]),
        "num_updates": returns.shape[1],
        "env_steps": int(env_steps.sum()),
        "env_steps_per_second": float(env_steps.sum() / run_seconds),
        "wall_clock": {"compile_seconds": compile_seconds, "run_seconds": run_seconds},
        "rows_with_returns_sum_not_positive": _flagged(workdir),
    }


def _flagged(workdir: Path) -> int:
    try:
        return int(np.nansum(read_metric(workdir, "returns_sum_not_positive") > 0))
    except KeyError:  # an algorithm without this metric
        return 0

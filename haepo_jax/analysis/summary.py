"""The numbers that a run ends with."""

from pathlib import Path
from typing import Any

import numpy as np

from haepo_jax.analysis.endings import ended
from haepo_jax.analysis.metrics import read_members, read_metric
from haepo_jax.run_folder import read_json

FINAL_UPDATES = 10
"""The final return of a member is its mean over this many updates, its last."""


def summarize(workdir: Path) -> dict[str, Any]:
    """What `summary.json` holds, from `metrics/`, `members.json` and `provenance.json`.

    Args:
      workdir: a run folder with all its metrics.

    Returns:
      For each member its final return (mean over its last 10 updates; None once diverged), its best (largest
      of an update), its environment steps and its status; the time and the environment steps, in all and a second.
    """
    returns = read_metric(workdir, "episode_return")
    env_steps = read_metric(workdir, "env_steps")[:, -1]
    diverged = read_metric(workdir, "diverged")
    attempts = read_json(workdir / "provenance.json")
    seconds = {
        name: sum(attempt.get(name, 0.0) for attempt in attempts) for name in ("compile_seconds", "run_seconds")
    }
    members = []
    for index, member in enumerate(read_members(workdir)):
        series = returns[index][~np.isnan(returns[index])]
        deaths = np.flatnonzero(diverged[index] == 1)
        members.append(
            {
                "member": index,
                "seed": member["seed"],
                "settings": member["settings"],
                "group": member["group"],
                "final_return": None if deaths.size else float(series[-FINAL_UPDATES:].mean()),
                "best_return": float(series.max()),
                "env_steps": int(env_steps[index]),
                "status": "diverged" if deaths.size else "ok",
                "death_update": int(deaths[0]) if deaths.size else None,
            }
        )
    return {
        "members": members,
        "final_updates": min(FINAL_UPDATES, returns.shape[1]),
        "num_updates": returns.shape[1],
        "env_steps": int(env_steps.sum()),
        "env_steps_per_second": float(env_steps.sum() / seconds["run_seconds"]),
        "wall_clock": seconds,
        "rows_with_returns_sum_not_positive": _flagged(workdir),
    }


def unfinished(workdir: Path) -> list[int]:
    """The members that have not ended by the metrics of a run, which a summary would miss."""
    members = read_members(workdir)
    updates, env_steps = np.zeros(len(members), int), np.zeros(len(members), np.int64)
    diverged = np.zeros(len(members), bool)
    if any((workdir / "metrics").glob("*.parquet")):
        rows = read_metric(workdir, "diverged")
        begun = slice(len(rows))
        updates[begun] = np.isfinite(rows).sum(axis=1)
        env_steps[begun] = np.nan_to_num(read_metric(workdir, "env_steps")[:, -1])
        diverged[begun] = (rows == 1).any(axis=1)
    config = read_json(workdir / "config.json")
    done = ended(config, members, updates=updates, env_steps=env_steps, diverged=diverged)
    return np.flatnonzero(~done).tolist()


def _flagged(workdir: Path) -> int:
    try:
        return int(np.nansum(read_metric(workdir, "returns_sum_not_positive") > 0))
    except KeyError:  # an algorithm without this metric
        return 0

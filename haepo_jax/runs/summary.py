"""The numbers that a run ends with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from haepo_jax.runs.endings import find_ended
from haepo_jax.runs.files import StrPath, read_attempts, read_record
from haepo_jax.runs.json_files import replace_non_finite
from haepo_jax.runs.lineage import describe_populations, read_lineage
from haepo_jax.runs.metrics.reader import read_metric, read_rows

FINAL_UPDATES = 10
"""The final return of a member is its mean over this many updates, its last."""


def summarize(workdir: StrPath) -> dict[str, Any]:
    """Computes what `summary.json` holds, from `metrics/`, `members.json` and `provenance.json`.

    Args:
      workdir: a run folder with all its metrics.

    Returns:
      For each member its final return (mean over its last 10 updates in which an episode ended; None once diverged,
      where none did, or where it is not finite), its best (largest finite one of an update; None where there is none),
      its environment steps and its status; the time and the environment steps, in all and a second. Where policies
      were evaluated in training, also each member's largest evaluation return and after how many updates it was first
      reached, None for a member without one. With population-based training the settings of a member are its first
      ones, and `populations` says what became of each population: see `lineage.describe_populations`.

    Raises:
      ConfigError: the folder holds no run, or a file of it is damaged.
    """
    rows = read_rows(workdir, ("episode_return", "env_steps", "diverged"))
    returns = rows.by_update("episode_return", np.nan)
    env_steps = rows.by_update("env_steps", 0).max(axis=1, initial=0)
    diverged = rows.by_update("diverged", False)
    attempts = read_attempts(workdir)
    seconds = {name: sum(attempt[name] for attempt in attempts) for name in ("compile_seconds", "run_seconds")}
    members = []
    for index, member in enumerate(rows.members):
        series = returns[index][~np.isnan(returns[index])]
        # A copy of another member has rows after those in which it had diverged.
        alive = np.flatnonzero(~diverged[index, : rows.count[index]])
        divergences = np.arange(alive[-1] + 1 if alive.size else 0, rows.count[index])
        members.append(
            {
                "member": index,
                "seed": member["seed"],
                "settings": member["settings"],
                "group": member["group"],
                "final_return": None if divergences.size else _compute_mean(series[-FINAL_UPDATES:]),
                "best_return": max(series[np.isfinite(series)].tolist(), default=None),
                "env_steps": int(env_steps[index]),
                "status": "diverged" if divergences.size else "ok",
                "diverged_at": int(divergences[0]) if divergences.size else None,
            }
        )
    run_seconds = seconds["run_seconds"]
    members = [member | best for member, best in zip(members, _find_best_evaluations(workdir, members), strict=True)]
    return {
        "members": members,
        "final_updates": min(FINAL_UPDATES, returns.shape[1]),
        "num_updates": returns.shape[1],
        "env_steps": int(env_steps.sum()),
        "env_steps_per_second": float(env_steps.sum() / run_seconds) if run_seconds > 0 else None,
        "wall_clock": seconds,
        "rows_with_returns_sum_not_positive": _count_flagged(workdir),
    } | _describe_exchanges(workdir, members)


def find_unfinished(workdir: StrPath) -> list[int]:
    """Returns the members that have not ended by the metrics of a run, which a summary would miss.

    Raises:
      ConfigError: the folder holds no run, or a file of it is damaged.
    """
    rows = read_rows(workdir, ("env_steps", "diverged"))
    done = find_ended(
        read_record(workdir),
        rows.members,
        updates=rows.count,
        env_steps=rows.by_update("env_steps", 0).max(axis=1, initial=0),
        diverged=rows.has_diverged,
    )
    return np.flatnonzero(~done).tolist()


def _describe_exchanges(workdir: StrPath, members: list[dict[str, Any]]) -> dict[str, Any]:
    """Describes populations whose members copied one another; nothing of a run without."""
    lineage = read_lineage(workdir)
    return {} if lineage is None else {"populations": describe_populations(lineage, members)}


def _find_best_evaluations(workdir: StrPath, members: Sequence[Any]) -> list[dict[str, Any]]:
    """Finds the largest return of each member's evaluations in training, and the updates done when it first came."""
    try:
        evaluated = read_metric(workdir, "eval_return").astype(np.float64)
    except KeyError:  # nothing was evaluated
        return [{} for _ in members]
    scores = np.where(np.isfinite(evaluated), evaluated, -np.inf)
    best = scores.argmax(axis=1)  # the first of those that tie
    return [
        {"best_eval_return": float(row[k]), "best_eval_update": int(k) + 1}
        if np.isfinite(row[k])
        else {"best_eval_return": None, "best_eval_update": None}
        for row, k in zip(scores, best, strict=True)
    ]


def _compute_mean(values: np.ndarray) -> float | None:
    """Computes the mean; None where there is none, or none that is finite."""
    return replace_non_finite(float(values.mean(dtype=np.float64))) if values.size else None


def _count_flagged(workdir: StrPath) -> int:
    try:
        return int(np.nansum(read_metric(workdir, "returns_sum_not_positive") > 0))
    except KeyError:  # an algorithm without this metric
        return 0

"""Metrics of runs, on axes that they share."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from haepo_jax.runs.files import StrPath, read_attempts, read_members, read_record, read_summary
from haepo_jax.runs.json_files import read_json
from haepo_jax.runs.metrics.reader import group_by_setting, read_metric

GRID_POINTS = 100
POLICIES = "policies.json"
"""In the folder of a run: what was measured of the policies in its checkpoints."""


class RunData:
    """A finished run."""

    def __init__(self, path: StrPath) -> None:
        """Reads nothing yet."""
        self.path = Path(path)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The config as JSON has it."""
        return read_record(self.path)

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        return read_summary(self.path)

    @functools.cached_property
    def members(self) -> list[dict]:
        """Seed and swept settings of each member."""
        return read_members(self.path)

    @functools.cached_property
    def policies(self) -> dict[str, Any]:
        """What was measured of the policies in its checkpoints, by name; see `experiments.studies.runs.Look`."""
        return read_json(self.path / POLICIES, dict)

    def groups(self) -> list[tuple[dict[str, float], list[int]]]:
        """Lists each swept setting with the indices of its members."""
        return [(self.members[rows[0]]["settings"], rows) for rows in group_by_setting(self.members).values()]

    @functools.cache  # noqa: B019 - a run's few metrics, kept as long as the run
    def metric(self, name: str) -> np.ndarray:
        """Returns a metric, `[members, updates]`; NaN once a member has stopped."""
        return read_metric(self.path, name)

    @property
    def env_steps(self) -> np.ndarray:
        """`[members, updates]` environment steps after each update; they stand still once a member has stopped."""
        return self.metric("env_steps")

    def curve(self, name: str, grid: np.ndarray, *, failure: float, window: float = 0.0) -> np.ndarray:
        """Returns a metric against environment steps.

        Args:
          name: the metric.
          grid: `[points]` environment steps.
          failure: the value of a member that has diverged, from there on, and of one that never had a value.
          window: a point is the mean over the updates that ended in this many steps before it, and the newest
            value where none did. Before its first value a member has that one; after its last, its last.

        Returns:
          `[members, points]`.
        """
        values, steps = self.metric(name), self.env_steps
        diverged = np.array([member["status"] == "diverged" for member in self.summary["members"]])
        rows = []
        for series, ends, dead in zip(values, steps, diverged, strict=True):
            valid = ~np.isnan(series)
            if not valid.any():
                rows.append(np.full(len(grid), failure))
                continue
            row = _sample_on_grid(ends[valid], series[valid], grid, window)
            rows.append(np.where(dead & (grid > ends[valid][-1]), failure, row))
        return np.array(rows)

    def seconds(self) -> np.ndarray:
        """Returns wall-clock seconds of training after each update, without compilation, `[updates]`."""
        done, clock, before = [0], [0.0], 0.0
        for attempt in read_attempts(self.path):
            for updates, seconds in attempt.get("timeline", []):
                if updates > done[-1]:
                    done.append(updates)
                    clock.append(before + seconds)
            before = clock[-1]
        return np.interp(np.arange(1, self.env_steps.shape[1] + 1), done, clock)


def _sample_on_grid(ends: np.ndarray, series: np.ndarray, grid: np.ndarray, window: float) -> np.ndarray:
    last = np.searchsorted(ends, grid, side="right")  # updates that ended by then
    first = np.searchsorted(ends, grid - window, side="right")
    sums = np.concatenate([[0.0], np.cumsum(series, dtype=np.float64)])
    first = np.clip(np.minimum(first, last - 1), 0, None)
    last = np.maximum(last, first + 1)
    return (sums[last] - sums[first]) / (last - first)


def find_steps_to(curve: np.ndarray, grid: np.ndarray, threshold: float) -> np.ndarray:
    """Finds the first grid point at which a curve `[members, points]` is at the threshold, `[members]`; else inf."""
    reached = curve >= threshold
    return np.where(reached.any(axis=1), grid[np.argmax(reached, axis=1)], np.inf)


def make_budget_grid(budget: float) -> np.ndarray:
    """Makes the environment steps at which curves are compared."""
    return np.linspace(0, budget, GRID_POINTS + 1)[1:]

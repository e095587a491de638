"""The choice of each method's settings, on seeds that are never reported."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.studies.methods import STATED, Method
from experiments.studies.run_data import RunData, make_budget_grid
from experiments.studies.runs import Runs

TUNING_SEED = 1000


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that all methods learn under the same conditions."""

    name: str
    """For folders."""
    label: str
    """For people."""
    settings: Mapping[str, Any]
    """Environment and M, by dotted name."""
    ppo: Mapping[str, Any]
    """Environments and steps of PPO's segments, in place of M."""
    budget: int
    """Environment steps of a member."""
    max_updates: int
    """Where a member stops that needs fewer environment steps than the budget; for methods with episodes only."""
    metric: str
    better: int
    """1 if larger is better, -1 if smaller."""
    failure: float
    """The metric of a member that has diverged."""
    window: float
    """Environment steps over which a curve is smoothed."""
    judged_share: float = 1.0
    """The end of the curve by whose mean settings are chosen, as a share of it: 1 is the whole of learning."""

    def judged(self, curves: np.ndarray) -> np.ndarray:
        """Computes the mean over the end of curves `[..., points]` by which settings are chosen."""
        points = max(1, round(self.judged_share * curves.shape[-1]))
        return curves[..., -points:].mean(axis=-1)

    def curve(self, run: RunData) -> np.ndarray:
        """Returns the metric on this task's grid, `[members, points]`."""
        return run.curve(self.metric, self.grid(run), failure=self.failure, window=self.window)

    def grid(self, run: RunData) -> np.ndarray:
        """Returns the environment steps of the points."""
        return make_budget_grid(run.config["max_env_steps"])


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A method with the settings chosen for a task."""

    task: Task
    method: Method
    settings: Mapping[str, Any]
    """Everything but the seeds, by dotted name."""
    chosen: Mapping[str, float]
    score: float
    """Of the chosen setting: what its task judges by, mean over seeds."""
    tried: tuple[tuple[Mapping[str, float], float], ...]
    """Every setting with its score."""


def make_settings(runs: Runs, task: Task, method: Method) -> dict[str, Any]:
    """Makes a method's untuned settings on a task, by dotted name."""
    budget = max(1, round(task.budget * runs.scale.budget))
    settings = {**STATED, **task.settings, **method.base, "max_env_steps": budget}
    if settings["algorithm"] == "ppo":
        settings |= task.ppo
        per_update = settings["num_trajectories"] * settings["ppo.num_steps"]
        settings["num_updates"] = -(-budget // per_update)
    else:
        settings["num_updates"] = max(2, round(task.max_updates * method.patience * runs.scale.budget))
    return settings


def tune(runs: Runs, task: Task, method: Method, *, extra: Mapping[str, Any] | None = None) -> Tuned:
    """Tries every setting of the method on the tuning seeds, and takes the one that the task judges best.

    Args:
      runs: where the runs are.
      task: what is learned.
      method: who learns.
      extra: settings of the tuning run alone, such as the bandits that are played.

    Returns:
      The choice, and what it was made from.
    """
    settings = make_settings(runs, task, method)
    if not runs.scale.tuning_seeds:
        chosen = method.settings()[0]
        return Tuned(task, method, {**settings, **chosen}, chosen, float("nan"), ())
    seeds = {"seed": TUNING_SEED, "num_seeds": runs.scale.tuning_seeds, **(extra or {})}
    scores: dict[tuple, list[float]] = {}
    for number, grid in enumerate(method.grids(), start=1):
        name = f"{task.name}/tuning/{method.name}" + (f"_{number}" if len(method.cases) > 1 else "")
        run = runs.get(name, {**settings, **{f"sweep.{key}": values for key, values in grid.items()}, **seeds})
        judged = task.judged(task.curve(run))
        for swept, rows in run.groups():
            key = tuple((name, swept[name]) for name in grid)
            scores.setdefault(key, []).append(float(judged[rows].mean()))
    tried = tuple((dict(key), float(np.mean(values))) for key, values in scores.items())
    chosen, score = max(tried, key=lambda pair: task.better * pair[1])
    return Tuned(task, method, {**settings, **chosen}, chosen, score, tried)


def run_reported(runs: Runs, tuned: Tuned, name: str | None = None, **changes: Any) -> RunData:
    """Runs a tuned method on the reported seeds, with changes by dotted name (dots as they are)."""
    path = f"{tuned.task.name}/{name or tuned.method.name}"
    return runs.get(path, {**tuned.settings, "seed": 0, "num_seeds": runs.scale.seeds, **changes})


def transfer(runs: Runs, tuned: Tuned, task: Task) -> Tuned:
    """Transfers the choice made on one task to another."""
    settings = {**make_settings(runs, task, tuned.method), **tuned.chosen}
    return dataclasses.replace(tuned, task=task, settings=settings)

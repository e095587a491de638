"""Scores of runs: the end of each learning curve, and the mean over the whole of it, on the scale of its task."""

import dataclasses

import numpy as np

from experiments.studies.run_data import GRID_POINTS, RunData, make_budget_grid
from experiments.studies.suite.tasks import Task

END = 10
"""Points at the end of a curve that make its score: the last tenth of the environment steps."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the runs of a method on a task came to, each `[runs]`."""

    final: np.ndarray
    """Mean over the last tenth of the environment steps, in the task's unit."""
    normalized: np.ndarray
    """The same with random play as 0 and the best known as 1, not clipped."""
    area: np.ndarray
    """Normalised mean over all environment steps."""

    def rows(self, rows: list[int]) -> "Scores":
        """Takes the scores of some of the runs."""
        return Scores(self.final[rows], self.normalized[rows], self.area[rows])


def score(task: Task, run: RunData, random: float) -> Scores:
    """Scores the runs of a task.

    Args:
      task: what was learned.
      run: its data.
      random: the score of random play, which stands for a policy that has diverged.
    """
    grid = make_budget_grid(run.config["max_env_steps"])
    curves = task.sign * run.curve(task.metric, grid, failure=task.sign * random, window=grid[-1] / GRID_POINTS)
    final = curves[:, -END:].mean(axis=1)
    return Scores(final, task.normalize(final, random), task.normalize(curves.mean(axis=1), random))

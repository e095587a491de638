"""A method on the reported seeds of a task."""

import dataclasses
from typing import Protocol

import numpy as np

from experiments.studies.methods import Method
from experiments.studies.run_data import RunData, make_budget_grid
from experiments.studies.runs import Runs
from experiments.studies.suite import random_play
from experiments.studies.suite.scores import Scores, score
from experiments.studies.suite.selection import Setting, Tuning, make_settings
from experiments.studies.suite.tasks import Task

_WINDOW = 0.05
"""The share of the environment steps over which a curve is smoothed."""


class Learning(Tuning, Protocol):
    """How large a study is, as far as its learning needs to know."""

    @property
    def episodes(self) -> int:
        """Of random play, for each task."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a method came to on a task."""

    task: Task
    method: Method
    run: RunData
    scores: Scores
    random: float
    """The score of random play."""

    @property
    def grid(self) -> np.ndarray:
        """`[points]` the environment steps of the curve."""
        return make_budget_grid(self.run.config["max_env_steps"])

    def curve(self) -> np.ndarray:
        """Returns the smoothed return while it learns, `[seeds, points]`."""
        return self.run.curve(self.task.metric, self.grid, failure=self.random, window=_WINDOW * self.grid[-1])


def measure_random[Size: Learning](runs: Runs[Size], task: Task) -> float:
    """Measures random play on a task, once."""
    return random_play.load_or_measure(runs.directory, task, runs.scale.episodes)


def learn[Size: Learning](runs: Runs[Size], task: Task, method: Method, setting: Setting, seeds: int) -> Learned:
    """Trains a method with one of its settings on the seeds of a task from 0 up.

    Args:
      runs: where the runs are.
      task: what is learned.
      method: who learns.
      setting: what was chosen of its grid.
      seeds: how many.
    """
    random = measure_random(runs, task)
    settings = {**make_settings(task, method, runs.scale.budget), **setting, "seed": 0, "num_seeds": seeds}
    run = runs.get(f"{task.name}/{method.name}", settings)
    return Learned(task, method, run, score(task, run, random), random)

"""What the suite measured: every method on every reported task, with both of its settings."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from experiments.studies.suite import random_play
from experiments.studies.suite.methods import METHODS
from experiments.studies.suite.scale import Scale
from experiments.studies.suite.selection import Reported, Tried, choose_one, report, tune
from experiments.studies.suite.tasks import Task

FORMS = ("one", "tuned")
"""The one setting for all tasks, and the one chosen for each."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that the page is made of."""

    tasks: Sequence[Task]
    """Those reported."""
    random: Mapping[str, float]
    """The score of random play, by the name of the task; tuning tasks too."""
    one: Mapping[str, Tried]
    """By the name of the method: the settings tried on the tuning tasks together, the one setting among them."""
    tuned: Mapping[str, Mapping[str, Tried]]
    """By task and method: the settings tried on the task's own tuning seeds."""
    reported: Mapping[str, Mapping[str, Reported]]
    """By task and method."""

    def scores(self, method: Method, form: str, kind: str = "normalized") -> np.ndarray:
        """Gathers the scores of a method on all tasks, `[tasks, seeds]`.

        Args:
          method: which one.
          form: one of `FORMS`.
          kind: a field of `Scores`.
        """
        return np.stack([self.of_task(task, method, form, kind) for task in self.tasks])

    def of_task(self, task: Task, method: Method, form: str, kind: str = "normalized") -> np.ndarray:
        """Gathers the scores of a method on one task, `[seeds]`; arguments as of `scores`."""
        return getattr(getattr(self.reported[task.name][method.name], form), kind)

    def find(self, name: str) -> Task | None:
        """Finds a reported task by its name; None where the scale leaves it out."""
        return next((task for task in self.tasks if task.name == name), None)


def measure(runs: Runs[Scale]) -> Results:
    """Does what is missing of the suite's runs.

    The tuning tasks come first, as the one setting must be known before a reported task is played with it.
    """
    scale = runs.scale
    random = {
        task.name: random_play.load_or_measure(runs.directory, task, scale.episodes)
        for task in (*scale.tuning, *scale.reported)
    }
    one = {
        method.name: choose_one([tune(runs, task, method, random[task.name]) for task in scale.tuning])
        for method in METHODS
    }
    tuned: dict[str, dict[str, Tried]] = {task.name: {} for task in scale.reported}
    reported: dict[str, dict[str, Reported]] = {task.name: {} for task in scale.reported}
    for task in scale.reported:
        for method in METHODS:  # one after the other: both runs of a method are the same program
            tried = tuned[task.name][method.name] = tune(runs, task, method, random[task.name])
            reported[task.name][method.name] = report(
                runs, task, method, random[task.name], one=one[method.name].chosen, tuned=tried.chosen
            )
    return Results(scale.reported, random, one, tuned, reported)

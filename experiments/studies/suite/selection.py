"""The choice of each method's settings: one for all tasks, on the tuning tasks, and one for each task, on its own.

Neither has seen a reported seed, and the one setting has seen no reported task.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from experiments.studies.methods import STATED, Method
from experiments.studies.run_data import RunData
from experiments.studies.runs import Runs, Scale
from experiments.studies.suite.scores import Scores, score
from experiments.studies.suite.tasks import Task

TUNING_SEED = 1000

Setting = Mapping[str, float]
"""By dotted name."""


class Tuning(Scale, Protocol):
    """How large a study is, as far as its tuning needs to know."""

    @property
    def tuning_seeds(self) -> int:
        """Seeds of each setting while it is tried, counted from 1000."""

    @property
    def budget(self) -> float:
        """Share of each task's environment steps."""


class Reporting(Tuning, Protocol):
    """How large a study is that reports both settings of a method."""

    @property
    def seeds(self) -> int:
        """Reported seeds of a task, counted from 0."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """Every setting of a method with its score."""

    method: Method
    settings: tuple[Setting, ...]
    scores: tuple[float, ...]
    """Normalised, mean over tuning seeds (and over tuning tasks)."""

    @property
    def chosen(self) -> Setting:
        """The best setting; the first of those that tie."""
        return self.settings[int(np.argmax(self.scores))]

    @property
    def tried(self) -> tuple[tuple[Setting, float], ...]:
        """Pairs, for the table of settings tried."""
        return tuple(zip(self.settings, self.scores, strict=True))


@dataclasses.dataclass(frozen=True)
class Reported:
    """A method on the reported seeds of a task."""

    one: Scores
    """With the one setting for all tasks."""
    tuned: Scores
    """With the setting chosen for this task."""
    run: RunData
    """The run of both."""
    rows: list[int]
    """Its members with the one setting."""


def make_settings(task: Task, method: Method, budget: float) -> dict[str, Any]:
    """Makes a method's untuned settings on a task, by dotted name.

    Args:
      task: what is learned.
      method: who learns.
      budget: share of the task's environment steps.
    """
    steps = max(1, round(task.budget * budget))
    settings = {**STATED, **task.settings, **method.base, "max_env_steps": steps}
    in_each = settings.get(f"{settings['algorithm']}.num_steps")  # of a method that learns from segments
    if in_each is not None:
        least = settings["num_trajectories"] * in_each
    else:
        least = max(settings["num_trajectories"] * task.shortest, settings["min_batch_steps"] or 1)
    return {**settings, "num_updates": -(-steps // least)}  # the budget ends a member, never its updates


def tune[Size: Tuning](runs: Runs[Size], task: Task, method: Method, random: float) -> Tried:
    """Tries every setting of a method on a task's tuning seeds.

    Args:
      runs: where the runs are.
      task: what is learned.
      method: who learns.
      random: the task's score of random play.
    """
    settings = tuple(method.settings())
    seeds = {"seed": TUNING_SEED, "num_seeds": runs.scale.tuning_seeds}
    points = {"search.points": settings, **seeds}
    run = runs.get(f"{task.name}/tuning/{method.name}", {**make_settings(task, method, runs.scale.budget), **points})
    normalized = score(task, run, random).normalized
    groups = run.groups()
    scores = (float(normalized[_rows_of(groups, setting)].mean()) for setting in settings)
    return Tried(method, settings, tuple(scores))


def choose_one(tried: Sequence[Tried]) -> Tried:
    """Chooses a method's one setting for all tasks, by its mean score over the tuning tasks."""
    first = tried[0]
    scores = np.mean([one.scores for one in tried], axis=0)
    return Tried(first.method, first.settings, tuple(map(float, scores)))


def report[Size: Reporting](
    runs: Runs[Size], task: Task, method: Method, random: float, *, one: Setting, tuned: Setting
) -> Reported:
    """Trains a method on a task's reported seeds, with both of its settings as members of one program."""
    chosen = [one] if one == tuned else [one, tuned]
    seeds = {"seed": 0, "num_seeds": runs.scale.seeds}
    run = runs.get(
        f"{task.name}/{method.name}",
        {**make_settings(task, method, runs.scale.budget), "search.points": tuple(chosen), **seeds},
    )
    scores, groups = score(task, run, random), run.groups()
    rows, tuned_rows = (_rows_of(groups, setting) for setting in (one, tuned))
    return Reported(scores.rows(rows), scores.rows(tuned_rows), run, rows)


def _rows_of(groups: Iterable[tuple[Setting, list[int]]], setting: Setting) -> list[int]:
    """The members with this setting."""
    for found, rows in groups:
        if dict(found) == dict(setting):
            return rows
    raise AssertionError(f"The run has no member with {setting}.")

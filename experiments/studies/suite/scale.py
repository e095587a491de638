"""How large the suite is: as reported, or quick for a look."""

import dataclasses

from experiments.studies.suite.methods import METHODS
from experiments.studies.suite.tasks import REPORTED, TUNING, Task


@dataclasses.dataclass(frozen=True)
class Scale:
    """Tasks, seeds and lengths of the suite."""

    quick: bool
    reported: tuple[Task, ...]
    tuning: tuple[Task, ...]
    """Tasks on which each method's one setting is chosen; none of them is reported."""
    seeds: int
    """Reported seeds of a task, counted from 0."""
    tuning_seeds: int
    """Seeds of each setting while it is tried, counted from 1000: none is ever reported."""
    budget: float
    """Share of each task's environment steps."""
    episodes: int
    """Of random play, for each task."""

    @property
    def runs(self) -> int:
        """The runs that the suite asks for in all: each task is tuned on, and those reported are trained on."""
        return len(METHODS) * (len(self.tuning) + 2 * len(self.reported))


# A setting is tried on so many seeds that a tuning run has as many members as a reported one, of two settings: one
# compiled program serves both.
FULL = Scale(quick=False, reported=REPORTED, tuning=TUNING, seeds=16, tuning_seeds=4, budget=1.0, episodes=4096)
QUICK = Scale(
    quick=True,
    reported=tuple(task for task in REPORTED if task.name in {"cartpole", "frozen_lake"}),
    tuning=tuple(task for task in TUNING if task.name == "catch"),
    seeds=4,
    tuning_seeds=1,
    budget=0.1,
    episodes=256,
)

"""The tasks of the study: the MinAtar games that gymnax has checkpoints of, and tasks that ask for memory."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.studies.methods import Method
from experiments.studies.runs import is_finished
from experiments.studies.segments.methods import DEFAULT, REMEMBERING
from experiments.studies.suite.tasks import Task
from haepo_jax.config.libraries import LIBRARIES, split_name

STEPS = 1_000_000
ELSEWHERE = "gymnax's PPO, two layers of 256 units"
ELSEWHERE_STEPS = 10_000_000


def _make_game(name: str, env: str, best: float) -> Task:
    return Task(name, env, {"env": env}, best, ELSEWHERE, budget=STEPS)


BREAKOUT = _make_game("breakout", "Breakout-MinAtar", 28.0)
"""On which settings are chosen, and what a segment's length and sharpness do is measured."""
GAMES = (
    _make_game("asterix", "Asterix-MinAtar", 15.0),
    BREAKOUT,
    _make_game("freeway", "Freeway-MinAtar", 58.0),
    _make_game("space_invaders", "SpaceInvaders-MinAtar", 131.0),
)


@dataclasses.dataclass(frozen=True)
class MemoryTask:
    """A task for a policy that remembers, and for one that does not."""

    label: str
    """For people."""
    method: Method
    remembering: Task
    """With a GRU."""
    memoryless: Task
    """With the default's network."""
    least: float | None
    """The return to be reached with memory; None where to be above the memoryless policy is the target."""

    @property
    def both(self) -> tuple[Task, Task]:
        """Both tasks, the one with memory first."""
        return self.remembering, self.memoryless


def _make_memory_task(
    name: str, label: str, settings: Mapping[str, Any], method: Method, *, steps: int, least: float | None = None
) -> MemoryTask:
    remembering, memoryless = (
        Task(
            f"{name}_{network}",
            f"{label}, {words}",
            {**settings, "policy.network": network},
            1.0,
            "by definition",
            budget=steps,
            shortest=settings["horizon"],
        )
        for network, words in (("gru", "GRU"), ("mlp", "no memory"))
    )
    return MemoryTask(label, method, remembering, memoryless, least)


def _make_chain(length: int) -> MemoryTask:
    return _make_memory_task(
        f"memory_chain_{length}",
        f"MemoryChain-bsuite, length {length}",
        {"env": "MemoryChain-bsuite", "env_params.memory_length": length, "horizon": length + 1},
        DEFAULT,
        steps=60_000,
        least=0.95,
    )


SHORT_CHAIN = _make_chain(5)
MEMORY = (
    SHORT_CHAIN,
    _make_chain(20),
    _make_memory_task(
        "repeat_previous",
        "popjym:RepeatPreviousEasy",
        {"env": "popjym:RepeatPreviousEasy", "horizon": 52},
        REMEMBERING,
        steps=500_000,
    ),
)


def can_run(directory: Path, task: MemoryTask) -> bool:
    """Returns whether the library of a task is installed, or its runs are there already.

    Args:
      directory: of the study.
      task: which.
    """
    library = split_name(task.remembering.settings["env"])
    if library is None or importlib.util.find_spec(LIBRARIES[library[0]].package) is not None:
        return True
    return all(is_finished(directory, f"{one.name}/{task.method.name}") for one in task.both)

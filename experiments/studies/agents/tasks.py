"""The tasks of the study: a game of ever more agents, and JaxMARL's two benchmarks."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from experiments.studies.runs import is_finished
from experiments.studies.suite.tasks import Task
from haepo_jax.config.libraries import LIBRARIES, split_name

SIGNAL_STEPS = 8
"""Of an episode, and the most return there is."""
NUM_EPISODES = 64
"""Of an update, for a method of whole episodes; as many environments are stepped for one of segments."""
_SPREAD_STEPS = 26
_RIDDLE_MOST = 540 / 729
"""Mean return of the best policy: the chance that all three have been in the room within the 6 steps."""


def make_signals_task(num_agents: int) -> Task:
    """Makes the task of `Signals-haepo` with this many agents, who all have the team's reward."""
    return Task(
        f"signals_{num_agents}",
        f"Signals-haepo, {num_agents} agents",
        {"env": "Signals-haepo", "env_kwargs.num_agents": num_agents, **_play(SIGNAL_STEPS)},
        float(SIGNAL_STEPS),
        "by definition",
        budget=60_000,
        shortest=SIGNAL_STEPS,
    )


def _play(num_steps: int) -> dict[str, int]:
    """The size of an update, the same of all methods where episodes have this many steps."""
    return {"num_trajectories": NUM_EPISODES, "haepo.num_steps": num_steps, "ppo.num_steps": num_steps}


SWITCH_RIDDLE = Task(
    "switch_riddle",
    "jaxmarl:switch_riddle",
    {"env": "jaxmarl:switch_riddle", "policy.network": "gru"},
    _RIDDLE_MOST,
    "by definition",
    budget=1_000_000,
)
SIMPLE_SPREAD = Task(
    "simple_spread",
    "jaxmarl:MPE_simple_spread_v3",
    {"env": "jaxmarl:MPE_simple_spread_v3", **_play(_SPREAD_STEPS)},
    0.0,
    "a bound: every landmark is covered all along",
    budget=1_000_000,
    shortest=_SPREAD_STEPS,
)


def can_run(directory: Path, task: Task, names: Iterable[str]) -> bool:
    """Returns whether the library of a task is installed, or its runs are there already.

    Args:
      directory: of the study.
      task: which.
      names: of its runs.
    """
    library = split_name(task.settings["env"])
    if library is None or importlib.util.find_spec(LIBRARIES[library[0]].package) is not None:
        return True
    return all(is_finished(directory, name) for name in names)

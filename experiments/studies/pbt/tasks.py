"""The tasks of the comparison, and the settings that are searched."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import STATED

BOUNDS: Mapping[str, tuple[float, float]] = {
    "optimizer.learning_rate": (1e-4, 3e-2),
    "haepo.entropy_coef": (1e-3, 1.0),
    "haepo.temperature": (0.5, 16.0),
}
"""Those that examples/optuna_search.py searches, between its bounds."""

_HAEPO = {**STATED, "algorithm": "haepo", "haepo.score": "log_ratio"}


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with the budget of each member."""

    name: str
    """For folders."""
    label: str
    """For people."""
    env: str
    num_trajectories: int
    """Few where an episode is long, as a member goes beyond its budget by up to an update."""
    budget: int
    """Environment steps of a member."""
    max_updates: int
    """More than a member needs that uses up its steps in the shortest episodes."""
    exchanges_every: int
    """Updates."""
    window: float
    """Environment steps over which a curve is smoothed."""

    def settings(self, budget: float) -> dict[str, Any]:
        """Returns the settings of both methods, by dotted name.

        Args:
          budget: share of the steps.
        """
        num_updates = max(4 * self.exchanges_every, round(self.max_updates * budget))
        return {
            **_HAEPO,
            "env": self.env,
            "num_trajectories": self.num_trajectories,
            "max_env_steps": max(1, round(self.budget * budget)),
            "num_updates": num_updates,
            "evaluate_every": self.exchanges_every,
            "evaluate_episodes": 64,
            "pbt.every": self.exchanges_every,
            **{f"pbt.perturb.{name}": bounds for name, bounds in BOUNDS.items()},
        }


TASKS = (
    Task("cartpole", "CartPole-v1", "CartPole-v1", 8, 100_000, 600, 4, 8_000),
    Task("frozen_lake", "FrozenLake-misc", "FrozenLake-misc", 16, 200_000, 2_500, 50, 8_000),
)

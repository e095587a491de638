"""Methods as they are compared: an algorithm, its fixed settings, and those to choose from."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

Grid = Mapping[str, tuple[float, ...]]
"""The values of settings, by dotted name."""

STATED: Mapping[str, Any] = {
    "min_batch_steps": None,
    "exploration.persistences": (),
    "optimizer.learning_rate": 3e-3,
    "optimizer.schedule": "constant",
    "haepo.normalization": "zscore",
    "haepo.temperature": 1.0,
    "haepo.projection": "reverse",
    "haepo.target": "boltzmann",
    "haepo.adapt": "fixed",
    "haepo.target_effective_sample_size": 0.5,
    "haepo.entropy_coef": 5e-3,
    "haepo.kl_coef": 5e-3,
    "haepo.num_epochs": 4,
    "haepo.reference": "previous",
    "haepo.history": 0,
}
"""What holds of all methods of a study, by dotted name, unless task or method say otherwise: no default decides what
is judged."""


@dataclasses.dataclass(frozen=True)
class Method:
    """An algorithm as it is compared."""

    name: str
    """For folders and flags."""
    label: str
    """For figures and tables."""
    base: Mapping[str, Any]
    """Settings by dotted name that are the same everywhere."""
    grid: Grid
    """Settings by dotted name to choose from: every combination is tried on tuning seeds."""
    num_settings: int
    """How many settings there are to choose from: the tuning budget."""
    cases: tuple[Grid, ...] = ({},)
    """More settings to choose from, where the values of one depend on another's: every combination of the grid is
    tried in each case. All cases name the same settings."""
    patience: int = 1
    """How many times the updates of a task a member may do that has environment steps left: a method that learns
    slowly plays short episodes for longer."""

    def __post_init__(self) -> None:
        """Holds the method to its tuning budget."""
        combinations = len(self.settings())
        if combinations != self.num_settings:
            raise ValueError(f"{self.name} has {combinations} settings to choose from, not {self.num_settings}.")

    def grids(self) -> list[dict[str, tuple[float, ...]]]:
        """Lists for each case all that is chosen from in it."""
        return [{**self.grid, **case} for case in self.cases]

    def settings(self) -> list[dict[str, float]]:
        """Lists every combination in every case, by dotted name."""
        return [
            dict(zip(grid, values, strict=True))
            for grid in self.grids()
            for values in itertools.product(*grid.values())
        ]


def nest_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nests settings, given by dotted name, in groups."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, leaf = name.split(".") if not name.startswith("sweep.") else ("sweep", name.removeprefix("sweep."))
        group = nested
        for step in groups:
            group = group.setdefault(step, {})
        group[leaf] = value
    return nested

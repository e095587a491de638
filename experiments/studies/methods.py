"""Methods as they are compared: an algorithm, its fixed settings, and those to choose from."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Method:
    """An algorithm as it is compared."""

    name: str
    """For folders and flags."""
    label: str
    """For figures and tables."""
    base: Mapping[str, Any]
    """Settings by dotted name that are the same everywhere."""
    grid: Mapping[str, tuple[float, ...]]
    """Settings by dotted name to choose from: every combination is tried on tuning seeds."""
    num_settings: int
    """The size of every grid: the tuning budget, one for all methods of an experiment."""

    def __post_init__(self) -> None:
        """Holds the methods to one tuning budget."""
        combinations = math.prod(len(values) for values in self.grid.values())
        if combinations != self.num_settings:
            raise ValueError(f"{self.name} has {combinations} settings to choose from, not {self.num_settings}.")

    def settings(self) -> list[dict[str, float]]:
        """Lists every combination of the grid, by dotted name."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


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

"""Seconds of things that are compared: measured in turn, so that what else the machine does meets them all alike."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Times(NamedTuple):
    """Seconds of one thing, measured several times."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return float(np.median(self.seconds))

    @property
    def least(self) -> float:
        """The fastest: what is nearest to an undisturbed machine, for differences that its unrest would hide."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """The slowest less the fastest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def measure_in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Times]:
    """Measures each thing so many times, in rounds of all of them.

    Args:
      measures: by name, functions that do the thing and return its seconds. What they do at their first call
        (to compile, say) must not be among these.
      repeats: how many rounds.
    """
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(repeats)]
    return {name: Times(tuple(seconds[name] for seconds in rounds)) for name in measures}

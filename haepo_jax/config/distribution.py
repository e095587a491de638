"""What a random search draws a number from."""

import math
from typing import NamedTuple

import numpy as np


class Distribution(NamedTuple):
    """Numbers between two bounds."""

    kind: str
    low: float
    high: float

    def draw(self, generator: np.random.Generator) -> float | int:
        """A number in `[low, high]`."""
        if self.kind == "integer":
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "log_uniform":
            drawn = float(np.exp(generator.uniform(math.log(self.low), math.log(self.high))))
            return min(max(drawn, self.low), self.high)  # which rounding may have left
        return float(generator.uniform(self.low, self.high))

"""The result of training a population in a program: metrics and parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from haepo_jax.population.held_out import BestPolicy


class Trained(dict[str, np.ndarray]):
    """The result of `Population.run`: each metric by name, `[settings, seeds, updates]`, `params` and `best`.

    `params` are what the policy takes at the end, a tree of arrays `[settings, seeds, ...]`; of a member that
    diverged, the last finite ones. `best` is the policy of the best evaluation, a `BestPolicy` of such arrays; None
    where `config.evaluate_every` is unset.
    """

    def __init__(self, metrics: Mapping[str, np.ndarray], params: Any, best: BestPolicy | None = None) -> None:
        """Holds all three."""
        super().__init__(metrics)
        self.params, self.best = params, best

    def member_params(self, setting: int, seed: int) -> Any:
        """Picks the parameters of one member, by the positions of its setting and seed in the lists that were run."""
        return jax.tree.map(lambda leaf: leaf[setting, seed], self.params)

    def __repr__(self) -> str:
        """Names the metrics and their shape, not their numbers."""
        shape = ", ".join(map(str, next(iter(self.values())).shape)) if self else ""
        return f"Trained({', '.join(self)}: [{shape}]; params)"

"""The methods that are compared, each with the same number of settings to choose from.

What a method may tune is its own learning rate and the coefficients that its literature tunes; everything else is at
its usual value. The network, the optimiser and M are the same for all.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

SETTINGS_PER_METHOD = 8


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
    num_settings: int = SETTINGS_PER_METHOD
    """The size of every grid: the tuning budget, one for all methods of an experiment."""

    def __post_init__(self) -> None:
        """Holds the methods to one tuning budget."""
        combinations = math.prod(len(values) for values in self.grid.values())
        if combinations != self.num_settings:
            raise ValueError(f"{self.name} has {combinations} settings to choose from, not {self.num_settings}.")

    def settings(self) -> list[dict[str, float]]:
        """Lists every combination of the grid, by dotted name."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def _haepo(score: str, entropy_coefs: tuple[float, float], temperatures: tuple[float, float]) -> Method:
    return Method(
        name=f"haepo_{score}",
        label=f"HAEPO, {score}",
        base={"algorithm": "haepo", "haepo.score": score},
        grid={
            "optimizer.learning_rate": (3e-3, 1e-2),
            "haepo.entropy_coef": entropy_coefs,
            "haepo.temperature": temperatures,
        },
    )


HAEPO = {
    "sum": _haepo("sum", (5e-3, 0.3), (1.0, 4.0)),
    "mean": _haepo("mean", (5e-3, 0.3), (1.0, 4.0)),
    # The entropy term holds log-ratios to about temperature / entropy_coef nats a unit of return:
    # docs/experiments/cartpole_race_settings.md.
    "log_ratio": _haepo("log_ratio", (0.1, 0.3), (8.0, 32.0)),
}
PPO = Method(
    name="ppo",
    label="PPO",
    base={"algorithm": "ppo", "discount": 0.99},
    grid={
        "optimizer.learning_rate": (1e-3, 3e-3),
        "ppo.gae_lambda": (0.8, 0.95),
        "ppo.entropy_coef": (0.0, 0.01),
    },
)
PPO_10_EPOCHS = Method("ppo_10_epochs", "PPO, 10 epochs", {**PPO.base, "ppo.num_epochs": 10}, PPO.grid)
GRPO = Method(
    name="grpo",
    label="GRPO",
    base={"algorithm": "grpo"},
    grid={
        "optimizer.learning_rate": (3e-3, 1e-2),
        "grpo.clip_epsilon": (0.2, 0.5),
        "grpo.kl_coef": (0.0, 5e-3),
    },
)
DPO = Method(
    name="dpo",
    label="DPO",
    base={"algorithm": "dpo"},
    grid={
        "optimizer.learning_rate": (3e-3, 1e-2),
        "dpo.beta": (0.03, 0.1, 0.3, 1.0),
    },
)
REINFORCE = Method(
    name="reinforce",
    label="REINFORCE",
    base={"algorithm": "reinforce"},
    grid={"optimizer.learning_rate": (1e-3, 2e-3, 3e-3, 6e-3, 1e-2, 2e-2, 3e-2, 6e-2)},
)
BASELINES = (PPO, GRPO, DPO, REINFORCE)
METHODS = (*HAEPO.values(), *BASELINES)


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

"""How large the comparison is: as reported, or quick for a look."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Scale:
    """Seeds, and the settings that differ from the config's."""

    quick: bool
    seeds: int
    """Reported runs of a method, counted from 0."""
    tuned: bool
    """Whether settings are chosen, on one seed that is never reported; if not, each method has its first."""
    settings: Mapping[str, Any]
    """By dotted name."""
    shapes: tuple[str, ...]
    """Of models whose memory is measured."""


FULL = Scale(quick=False, seeds=5, tuned=True, settings={}, shapes=("40M", "0.6B"))
QUICK = Scale(
    quick=True,
    seeds=2,
    tuned=False,
    settings={
        "data.num_held_out": 128,
        "sft.num_steps": 150,
        "reward.num_steps": 100,
        "rl.num_updates": 20,
        "rl.evaluate_every": 5,
        "rl.min_reward_accuracy": 0.0,
    },
    shapes=(),
)

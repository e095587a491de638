"""How large the study is: as reported, or quick for a look."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.studies.methods import Method
from experiments.studies.puzzles.methods import COMPARED, DAPO, HAEPO, METHODS


@dataclasses.dataclass(frozen=True)
class Scale:
    """Seeds, puzzles, and the settings that differ from the task's."""

    quick: bool
    methods: tuple[Method, ...]
    """HAEPO and DAPO are among them."""
    seeds: int
    """Reported runs of a method, counted from 0; each seed has a fine-tuned policy of its own."""
    tuning_seeds: int
    """Of each setting while it is tried, counted from 1000 and never reported; if 0, each method has its first."""
    puzzles: Mapping[str, int]
    """Arguments of `haepo_jax.language.data.puzzles.write`."""
    settings: Mapping[str, Any]
    """By dotted name."""
    samples: int
    """Answers to each test puzzle."""


FULL = Scale(quick=False, methods=COMPARED, seeds=5, tuning_seeds=3, puzzles={}, settings={}, samples=16)
EVERY_METHOD = dataclasses.replace(FULL, methods=METHODS)
"""Its runs are those of `FULL`, and more."""
QUICK = Scale(
    quick=True,
    methods=(HAEPO, DAPO),
    seeds=2,
    tuning_seeds=0,
    puzzles={"num_held_out": 64, "num_test": 64},
    settings={"sft.num_steps": 100, "rl.num_updates": 8, "rl.evaluate_every": 2},
    samples=4,
)

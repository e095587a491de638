"""How large the study is: as reported, or quick for a look."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """Parts, seeds and lengths of the study."""

    quick: bool
    numbers: tuple[int, ...]
    """Of agents, rising."""
    seeds: int
    """Reported seeds, counted from 0."""
    many_seeds: int
    """Of what is to hold on most seeds."""
    enough_seeds: int
    """On how many of these."""
    tuning_seeds: int
    """Seeds of each setting while it is tried, counted from 1000: none is ever reported."""
    budget: float
    """Share of each task's environment steps."""
    checkpoints: int
    """Policies of a run of self-play that are looked at, evenly over its updates."""
    episodes: int
    """Of random play, for each task."""
    runs: int = 0
    """The runs of the parts that are asked for."""


FULL = Scale(
    quick=False,
    numbers=(2, 4, 8, 16),
    seeds=8,
    many_seeds=16,
    enough_seeds=12,
    tuning_seeds=2,
    budget=1.0,
    checkpoints=12,
    episodes=1024,
)
QUICK = Scale(
    quick=True,
    numbers=(2, 4),
    seeds=2,
    many_seeds=2,
    enough_seeds=2,
    tuning_seeds=1,
    budget=0.05,
    checkpoints=3,
    episodes=64,
)

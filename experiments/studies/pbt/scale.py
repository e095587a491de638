"""How large the comparison is: as reported, or quick for a look."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """Populations and lengths."""

    quick: bool
    populations: int
    """Independent populations of each method on each task."""
    members: int
    """Of a population."""
    budget: float
    """Share of each task's environment steps."""
    runs: int
    """That the study asks for in all."""


FULL = Scale(quick=False, populations=12, members=16, budget=1.0, runs=4)
QUICK = Scale(quick=True, populations=3, members=6, budget=0.1, runs=4)

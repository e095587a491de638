"""How large the studies are: as reported, or quick for a look."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """Seeds and lengths of the studies."""

    quick: bool
    seeds: int
    """Reported seeds of a curve, counted from 0."""
    tuning_seeds: int
    """Seeds of each setting while tuning, counted from 1000: none is ever reported. 0 is no tuning: the first
    setting is taken."""
    arms: tuple[int, ...]
    """Of the Gaussian bandits."""
    bernoulli: bool
    """Whether Bernoulli bandits with the first of those numbers of arms are played too."""
    instances: int
    """Bandits, each played by `instance_seeds` seeds."""
    instance_seeds: int
    tuning_instances: int
    tuning_instance_seeds: int
    deep_seas: tuple[int, ...]
    """Sizes; the first is tuned on."""
    batches: int
    """Batches of which gradients are taken."""
    budget: float
    """Share of each study's environment steps."""
    runs: int
    """That the studies ask for in all; a test counts them."""


# A method with eight settings is tried with as many members as it is reported with: one program serves both.
FULL = Scale(
    quick=False,
    seeds=64,
    tuning_seeds=8,
    arms=(10, 20, 30),
    bernoulli=True,
    instances=16,
    instance_seeds=16,
    tuning_instances=16,
    tuning_instance_seeds=4,
    deep_seas=(8, 14, 20),
    batches=256,
    budget=1.0,
    runs=158,
)
QUICK = Scale(
    quick=True,
    seeds=4,
    tuning_seeds=0,
    arms=(10,),
    bernoulli=False,
    instances=4,
    instance_seeds=2,
    tuning_instances=0,
    tuning_instance_seeds=0,
    deep_seas=(8,),
    batches=16,
    budget=0.1,
    runs=61,
)

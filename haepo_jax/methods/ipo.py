"""IPO (Identity Preference Optimisation): as DPO, but the margin of a pair is drawn to a number."""

import dataclasses

import jax

from haepo_jax.fields import choice, number
from haepo_jax.losses import DpoMetrics, ipo_loss, trajectory_scores
from haepo_jax.methods.preferences import Pairs, PairsConfig, make_method
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig, ReferenceConfig

_LIKELIHOODS = ("mean", "sum")


@with_schedules
@dataclasses.dataclass(frozen=True)
class IpoLossConfig:
    """The loss of Identity Preference Optimisation."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the margin of a pair is drawn to 1 / (2 beta)."""
    likelihood: str = choice("mean", _LIKELIHOODS)
    """What of a trajectory is compared: the `mean` of its log-probabilities, as the authors' own code has it, or their
    `sum`, as their paper."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class IpoConfig(EpochsConfig, IpoLossConfig, ReferenceConfig, PairsConfig):
    """IPO on an environment: pairs of a batch's trajectories, the one of larger return preferred."""


def _loss(
    settings: IpoLossConfig, pairs: Pairs, reference: Pairs | None, lengths: Pairs, where: jax.Array | None
) -> tuple[jax.Array, DpoMetrics]:
    assert reference is not None  # `reference` cannot be none
    likelihoods = [
        trajectory_scores(sums, kind=settings.likelihood, lengths=steps)
        for of in (pairs, reference)
        for sums, steps in zip(of, lengths, strict=True)
    ]
    return ipo_loss(*likelihoods, beta=settings.beta, where=where)


METHOD = make_method("ipo", _loss, IpoConfig(), IpoLossConfig())

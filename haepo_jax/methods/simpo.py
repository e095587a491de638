"""SimPO: pairs compared by the mean log-probability of a step, with a margin and without a reference policy."""

import dataclasses

import jax

from haepo_jax.fields import number
from haepo_jax.losses import DpoMetrics, simpo_loss
from haepo_jax.methods.preferences import Pairs, PairsConfig, make_method
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig


@with_schedules
@dataclasses.dataclass(frozen=True)
class SimpoLossConfig:
    """The loss of SimPO."""

    beta: float = number(2.0, above=0.0)
    """Per nat a step; 2 to 10 in the paper."""
    margin: float = number(1.0, low=0.0)
    """Gamma: by how much beta times the difference of a pair's mean log-probabilities is to exceed 0."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class SimpoConfig(EpochsConfig, SimpoLossConfig, PairsConfig):
    """SimPO on an environment: pairs of a batch's trajectories, the one of larger return preferred."""


def _loss(
    settings: SimpoLossConfig, pairs: Pairs, reference: Pairs | None, lengths: Pairs, where: jax.Array | None
) -> tuple[jax.Array, DpoMetrics]:
    del reference
    return simpo_loss(*pairs, *lengths, beta=settings.beta, margin=settings.margin, where=where)


METHOD = make_method("simpo", _loss, SimpoConfig(), SimpoLossConfig())

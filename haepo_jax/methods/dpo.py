"""DPO (Direct Preference Optimisation): online on an environment, where the larger return of a pair is preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import dataclasses

import jax

from haepo_jax.fields import number
from haepo_jax.losses import DpoMetrics, dpo_loss
from haepo_jax.methods.preferences import Pairs, PairsConfig, make_method
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig, JointConfig, ReferenceConfig


@with_schedules
@dataclasses.dataclass(frozen=True)
class DpoLossConfig:
    """The loss of Direct Preference Optimisation."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the larger, the nearer the policy stays to its reference."""
    label_smoothing: float = number(0.0, low=0.0, high=0.49)
    """Share of the preferences that are taken to be the wrong way round."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class DpoConfig(EpochsConfig, JointConfig, DpoLossConfig, ReferenceConfig, PairsConfig):
    """DPO on an environment: pairs of a batch's trajectories, the one of larger return preferred."""


def _loss(
    settings: DpoLossConfig, pairs: Pairs, reference: Pairs | None, lengths: Pairs, where: jax.Array | None
) -> tuple[jax.Array, DpoMetrics]:
    del lengths
    assert reference is not None  # `reference` cannot be none
    return dpo_loss(*pairs, *reference, beta=settings.beta, label_smoothing=settings.label_smoothing, where=where)


METHOD = make_method("dpo", _loss, DpoConfig(), DpoLossConfig())

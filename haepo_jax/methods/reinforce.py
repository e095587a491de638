"""REINFORCE: one gradient step a batch, with the group's normalised returns as advantages."""

import dataclasses

import jax

from haepo_jax.fields import choice
from haepo_jax.losses import NORMALIZATIONS, normalize_returns, reinforce_loss
from haepo_jax.methods.record import Group, Method, Objective, Sees
from haepo_jax.methods.settings import JointConfig, why_normalization_is_unit_free
from haepo_jax.types import Metrics


@dataclasses.dataclass(frozen=True)
class ReinforceConfig(JointConfig):
    """REINFORCE with the group's returns as its baseline."""

    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""


def objective(settings: ReinforceConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes REINFORCE's loss of log-likelihoods `[..., M]`, without metrics of its own."""
    del reference_log_likelihoods
    advantages = normalize_returns(group.returns, method=settings.normalization, where=group.valid)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        return reinforce_loss(log_likelihoods, advantages, where=group.valid)[0], {}

    return loss_of


METHOD = Method(objective, Sees.SUMS, ReinforceConfig(), why_unit_free=why_normalization_is_unit_free)

"""GVPO: log-ratios to the reference policy that differ within a group as the returns do."""

import dataclasses

import jax
import jax.numpy as jnp

from haepo_jax.fields import choice, number
from haepo_jax.losses import NORMALIZATIONS, gvpo_loss, normalize_returns
from haepo_jax.methods.preferences import check_has_reference
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig, ReferenceConfig, why_normalization_is_unit_free
from haepo_jax.types import Metrics


@with_schedules
@dataclasses.dataclass(frozen=True)
class GvpoLossConfig:
    """The loss of GVPO."""

    beta: float = number(0.1, above=0.0)
    """In units of the return a nat: its optimum is the reference policy times exp(return / beta)."""
    normalization: str = choice("none", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `none`, by their `zscore`, or their `sum`."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class GvpoConfig(EpochsConfig, GvpoLossConfig, ReferenceConfig):
    """GVPO on an environment, where the batch is one group."""


def objective(settings: GvpoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes GVPO's loss of log-likelihoods `[..., M]`, with one metric.

    `residual` is the root of the mean squared difference between implicit rewards and returns, both centred.
    """
    assert reference_log_likelihoods is not None  # `reference` cannot be none
    returns = normalize_returns(group.returns, method=settings.normalization, where=group.valid)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = gvpo_loss(
            log_likelihoods, reference_log_likelihoods, returns, beta=settings.beta, where=group.valid
        )
        squares = jnp.sum(jnp.square(terms.residuals)) / jnp.maximum(jnp.sum(terms.num_valid), 1)
        return loss, make_scalars({"residual": jnp.sqrt(squares)})

    return loss_of


METHOD = Method(
    objective,
    Sees.SUMS,
    GvpoConfig(),
    metrics=("residual",),
    check=check_has_reference,
    why_unit_free=why_normalization_is_unit_free,
    language=OnLanguage(GvpoLossConfig()),
)

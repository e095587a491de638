"""KTO: single trajectories that are good or bad, without pairs.

On an environment a trajectory is good if its return is above its group's mean; of a comparison of language models the
preferred response is good and the other one bad.
"""

import dataclasses

import jax
import jax.numpy as jnp

from haepo_jax.fields import choice, number
from haepo_jax.losses import group_relative_advantages, kto_loss, varied_groups
from haepo_jax.methods.preferences import check_has_reference
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig, ReferenceConfig
from haepo_jax.types import Metrics

_POINTS = ("batch", "reference")


@with_schedules
@dataclasses.dataclass(frozen=True)
class KtoLossConfig:
    """The loss of KTO."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the larger, the sooner a trajectory is left alone as it is far from the point of comparison."""
    compared_with: str = choice("batch", _POINTS)
    """What a trajectory's log-ratio to the reference policy is compared with: the `batch`'s mean, where that is above
    0, or the `reference` policy's own, which is 0. The mean stands for the divergence from the reference, which the
    paper takes from responses to other prompts."""
    desirable_weight: float = number(1.0, above=0.0)
    """Weight of good trajectories."""
    undesirable_weight: float = number(1.0, above=0.0)
    """Weight of bad ones."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class KtoConfig(EpochsConfig, KtoLossConfig, ReferenceConfig):
    """KTO on an environment: returns above the group's mean are good, those below it bad."""


def objective(settings: KtoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes KTO's loss of log-likelihoods `[..., M]`; groups of equal returns do not count."""
    assert reference_log_likelihoods is not None  # `reference` cannot be none
    advantages = group_relative_advantages(group.returns, scale=False, where=group.valid)
    counts = jnp.broadcast_to(varied_groups(group.returns, where=group.valid)[..., None], advantages.shape)
    counts = counts if group.valid is None else counts & group.valid
    return _of_labels(settings, advantages > 0, reference_log_likelihoods, counts)


def on_comparisons(settings: KtoLossConfig, reference_log_likelihoods: jax.Array, lengths: jax.Array) -> Objective:
    """Makes KTO's loss of given pairs `[..., 2]`, the good one first."""
    del lengths
    desirable = jnp.broadcast_to(jnp.array([True, False]), reference_log_likelihoods.shape)
    return _of_labels(settings, desirable, reference_log_likelihoods, jnp.ones_like(desirable))


def _of_labels(settings: KtoLossConfig, desirable: jax.Array, reference: jax.Array, where: jax.Array) -> Objective:
    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        ratios = jnp.where(where, log_likelihoods - reference, 0)
        kl = jax.lax.stop_gradient(jnp.sum(ratios) / jnp.maximum(jnp.sum(where), 1))
        loss, terms = kto_loss(
            log_likelihoods,
            reference,
            desirable,
            beta=settings.beta,
            kl=kl if settings.compared_with == "batch" else 0.0,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
            where=where,
        )
        metrics = {
            "desirable_reward": terms.desirable_reward,
            "undesirable_reward": terms.undesirable_reward,
            "num_desirable": terms.num_desirable,
            "num_undesirable": terms.num_undesirable,
        }
        return loss, make_scalars(metrics)

    return loss_of


METHOD = Method(
    objective,
    Sees.SUMS,
    KtoConfig(),
    metrics=("desirable_reward", "undesirable_reward", "num_desirable", "num_undesirable"),
    check=check_has_reference,
    why_unit_free=lambda chosen: "kto asks of a return whether it is above the mean alone",
    language=OnLanguage(KtoLossConfig(), comparisons=on_comparisons),
)

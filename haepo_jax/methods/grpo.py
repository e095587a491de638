"""GRPO: clipped steps on every action of the batch, each trajectory's return against its group's.

On an environment the group is the batch: environments have no prompts, and all episodes answer the same question.
"""

import dataclasses
import functools

import jax

from haepo_jax.fields import choice, number
from haepo_jax.losses import AGGREGATIONS, group_relative_advantages, presets
from haepo_jax.methods.policy_ratio import make_ratio_objective
from haepo_jax.methods.record import Method, Objective, OnLanguage, Sees, StepGroup, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import Chosen, EpochsConfig, JointConfig, ReferenceConfig, check_reference_acts
from haepo_jax.types import Metrics

ADVANTAGE_SCALES = ("std", "none")
"""What a centred return is divided by: the standard deviation of its group, or nothing."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class GrpoLossConfig:
    """The GRPO loss: a trajectory's return against its group's is the advantage of all its steps."""

    advantage_scale: str = choice("std", ADVANTAGE_SCALES)
    """What divides the group's centred returns."""
    aggregation: str = choice("sequence_mean", AGGREGATIONS)
    """How the loss is averaged: `sequence_mean` over the steps of each episode first, `token_mean` over all steps
    alike, `constant` by the most steps that there can be."""
    clip_epsilon: float = number(0.2, above=0.0)
    """Bound on how far the probability ratio of a step may move from 1."""
    kl_coef: float = number(5e-3, low=0.0)
    """Weight of the divergence from the reference policy, which the loss lowers."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class GrpoConfig(EpochsConfig, JointConfig, GrpoLossConfig, ReferenceConfig):
    """GRPO on an environment, where the batch is one group."""


def objective(settings: GrpoLossConfig, group: StepGroup, reference_log_probs: jax.Array | None) -> Objective:
    """Makes GRPO's loss of log-probabilities `[..., M, T]`, with `clip_fraction`, `approx_kl` and `reference_kl`."""
    epsilon = settings.clip_epsilon
    loss_of = make_ratio_objective(
        functools.partial(presets.grpo, clip_low=epsilon, clip_high=epsilon, aggregation=settings.aggregation),
        group,
        group_relative_advantages(group.returns, scale=settings.advantage_scale == "std", where=group.valid),
        reference_log_probs,
        kl_coef=settings.kl_coef,
    )

    def with_metrics(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = loss_of(log_probs)
        metrics = {"clip_fraction": terms.clip_fraction, "approx_kl": terms.approx_kl, "reference_kl": terms.kl}
        return loss, make_scalars(metrics)

    return with_metrics


def _why_unit_free(chosen: Chosen) -> str | None:
    if chosen.settings.advantage_scale != "std":
        return None
    return f"{chosen.where('advantage_scale')} std takes the unit out of returns"


METHOD = Method(
    objective,
    Sees.STEPS,
    GrpoConfig(),
    metrics=("clip_fraction", "approx_kl", "reference_kl"),
    check=check_reference_acts,
    why_unit_free=_why_unit_free,
    language=OnLanguage(GrpoLossConfig(), sampled_kl="kl_coef", weighs_steps=True),
)

"""GRPO's variants: losses in the policy ratio, each by the name of its preset (`losses.presets`).

What they share is one objective; a method's level, shape and numbers are those of its preset, and what is its own here
is the advantage. On language models each is a built-in method; on an environment, where the batch is one group, it is
`config.algorithm=haepo_jax.methods.policy_ratio:GSPO`, and so on.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from haepo_jax.fields import choice, number
from haepo_jax.losses import (
    AGGREGATIONS,
    PolicyRatioMetrics,
    group_relative_advantages,
    leave_one_out_advantages,
    maxrl_advantages,
    presets,
    reinforce_plus_plus_advantages,
    varied_groups,
)
from haepo_jax.methods.record import Method, Objective, OnLanguage, Sees, StepGroup, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import (
    REFERENCES,
    Chosen,
    EpochsConfig,
    ReferenceConfig,
    check_reference_acts,
)
from haepo_jax.types import Metrics

_ADVANTAGES: dict[str, Callable[..., jax.Array]] = {
    "zscore": group_relative_advantages,
    "centred": functools.partial(group_relative_advantages, scale=False),
    "leave_one_out": leave_one_out_advantages,
    "whitened": reinforce_plus_plus_advantages,
    "whitened_centred": functools.partial(reinforce_plus_plus_advantages, baseline=True),
    "relative": maxrl_advantages,
}
ADVANTAGES = tuple(_ADVANTAGES)
_WITH_UNIT = ("centred", "leave_one_out")
METRICS = ("clip_fraction", "approx_kl", "reference_kl", "mean_ratio", "varied_groups")


@dataclasses.dataclass(frozen=True)
class RatioLossConfig:
    """What all losses in the policy ratio have."""

    advantage: str = choice("zscore", ADVANTAGES)
    """What a trajectory's return counts: its `zscore` in the group; `centred`, the return less the group's mean;
    `leave_one_out`, less the mean of the others; `whitened`, the z-score over the whole batch, or `whitened_centred`
    after the group's mean is taken off; `relative`, how much it is above the group's mean as a share of that."""
    aggregation: str = choice("token_mean", AGGREGATIONS)
    """How the loss is averaged: `sequence_mean` over the steps of each trajectory first, `token_mean` over all steps
    of a group alike, `constant` by the most steps that there can be."""
    kl_coef: float = number(0.0, low=0.0)
    """Weight of the divergence from the reference policy, a step's, which the loss lowers."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class ClippedLossConfig(RatioLossConfig):
    """A loss whose ratios are held between two bounds."""

    clip_low: float = number(0.2, above=0.0)
    """How far below 1 the lower bound of the ratio is; from 1 on it holds nothing."""
    clip_high: float = number(0.2, above=0.0)
    """How far above 1 the upper bound of the ratio is."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class SapoLossConfig(RatioLossConfig):
    """A loss whose ratios fade out along a sigmoid."""

    temperature: float = number(1.0, above=0.0)
    """How fast the push on a step that gains fades as its ratio leaves 1."""
    losing_temperature: float = number(1.05, above=0.0)
    """That of a step that does not gain."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class VespoLossConfig(RatioLossConfig):
    """A loss whose steps are weighed by a kernel of the whole trajectory's ratio."""

    power: float = number(2.0, above=0.0)
    """Of the ratio in the kernel `ratio^power exp(rate (1 - ratio))`, where the advantage is not negative."""
    rate: float = number(3.0, above=0.0)
    """At which that kernel falls as the ratio grows."""
    losing_power: float = number(3.0, above=0.0)
    """That of the kernel for negative advantages."""
    losing_rate: float = number(2.0, above=0.0)
    """That of the kernel for negative advantages."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class ClippedConfig(EpochsConfig, ClippedLossConfig, ReferenceConfig):
    """The loss with bounds on an environment, where the batch is one group."""

    reference: str = choice("none", REFERENCES)


@with_schedules
@dataclasses.dataclass(frozen=True)
class SapoConfig(EpochsConfig, SapoLossConfig, ReferenceConfig):
    """The loss with a sigmoid on an environment, where the batch is one group."""

    reference: str = choice("none", REFERENCES)


@with_schedules
@dataclasses.dataclass(frozen=True)
class VespoConfig(EpochsConfig, VespoLossConfig, ReferenceConfig):
    """The loss with a kernel on an environment, where the batch is one group."""

    reference: str = choice("none", REFERENCES)


class _Kind(NamedTuple):
    """The numbers of the losses of a shape."""

    on_language: type[Any]
    on_environments: type[Any]
    to_settings: Callable[[dict[str, Any]], dict[str, float]]
    """Of a preset's arguments, `arguments -> settings`."""
    to_arguments: Callable[[Any], dict[str, Any]]
    """Its inverse, `settings -> arguments`."""


_KERNEL = ("power", "rate", "losing_power", "losing_rate")
_CLIPPED = _Kind(
    ClippedLossConfig,
    ClippedConfig,
    lambda given: {name: given[name] for name in ("clip_low", "clip_high")},
    lambda settings: {"clip_low": settings.clip_low, "clip_high": settings.clip_high},
)
_KINDS = {
    "clip": _CLIPPED,
    "cispo": _CLIPPED,
    "sapo": _Kind(
        SapoLossConfig,
        SapoConfig,
        lambda given: dict(zip(("temperature", "losing_temperature"), given["temperatures"], strict=True)),
        lambda settings: {"temperatures": (settings.temperature, settings.losing_temperature)},
    ),
    "vespo": _Kind(
        VespoLossConfig,
        VespoConfig,
        lambda given: dict(zip(_KERNEL, (number for kernel in given["kernels"] for number in kernel), strict=True)),
        lambda settings: {
            "kernels": ((settings.power, settings.rate), (settings.losing_power, settings.losing_rate)),
        },
    ),
}

Loss = Callable[..., tuple[jax.Array, PolicyRatioMetrics]]
"""`policy_ratio_loss`, some of its arguments set."""


def make_ratio_objective(
    loss: Loss,
    group: StepGroup,
    advantages: jax.Array,
    reference_log_probs: jax.Array | None,
    *,
    kl_coef: jax.Array | float,
    where: jax.Array | None = None,
) -> Callable[[jax.Array], tuple[jax.Array, PolicyRatioMetrics]]:
    """Puts a loss in the policy ratio together.

    Args:
      loss: with its level, shape, numbers and aggregation.
      group: the batch.
      advantages: `[..., M]`.
      reference_log_probs: `[..., M, T]` under the reference policy, or None.
      kl_coef: weight of the divergence from it.
      where: the steps that count; by default those of the group.

    Returns:
      `log-probabilities [..., M, T] -> (loss, metrics of each group)`.
    """
    packed = group.packed

    def loss_of(log_probs: jax.Array) -> tuple[jax.Array, PolicyRatioMetrics]:
        return loss(
            log_probs,
            group.behaviour_log_probs,
            advantages,
            reference_log_probs,
            kl_coef=0 if reference_log_probs is None else kl_coef,
            importance_weights=group.importance_weights,
            where=group.where if where is None else where,
            trajectory_of_step=None if packed is None else packed.trajectory_of_step,
            max_steps=None if packed is None else packed.max_steps,
        )

    return loss_of


def objective(
    settings: RatioLossConfig,
    group: StepGroup,
    reference_log_probs: jax.Array | None,
    *,
    preset: functools.partial[tuple[jax.Array, PolicyRatioMetrics]],
    only_varied_groups: bool = False,
) -> Objective:
    """Makes the loss of a preset, with these settings, of log-probabilities `[..., M, T]`, with the `METRICS`.

    With `only_varied_groups` those whose returns are all equal are left out; else they count, with a loss of 0, in the
    mean over groups.
    """
    varied = varied_groups(group.returns, where=group.valid)
    where = group.where & varied[..., None, None] if only_varied_groups else group.where
    numbers = _KINDS[_shape_of(preset)].to_arguments(settings)
    loss_of = make_ratio_objective(
        functools.partial(preset, **numbers, aggregation=settings.aggregation),
        group,
        _ADVANTAGES[settings.advantage](group.returns, where=group.valid),
        reference_log_probs,
        kl_coef=settings.kl_coef,
        where=where,
    )

    def with_metrics(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = loss_of(log_probs)
        metrics = {
            "clip_fraction": terms.clip_fraction,
            "approx_kl": terms.approx_kl,
            "reference_kl": terms.kl,
            "mean_ratio": terms.mean_ratio,
            "varied_groups": varied,
        }
        return loss, make_scalars(metrics)

    return with_metrics


def _shape_of(preset: functools.partial) -> str:
    return str(preset.keywords.get("shape", "clip"))


def _why_unit_free(chosen: Chosen) -> str | None:
    advantage = chosen.settings.advantage
    if advantage in _WITH_UNIT:
        return None
    return f"{chosen.where('advantage')} {advantage} takes the unit out of returns"


def _make(
    preset: functools.partial[tuple[jax.Array, PolicyRatioMetrics]],
    *,
    advantage: str = "zscore",
    only_varied_groups: bool = False,
    **others: Any,
) -> Method:
    """Makes the method of a preset with the advantage that it goes with."""
    kind = _KINDS[_shape_of(preset)]
    settings = kind.to_settings(preset.keywords) | {
        "aggregation": preset.keywords["aggregation"],
        "advantage": advantage,
    }
    of_loss = {"sampled_kl": "kl_coef", "weighs_steps": True, **others}
    return Method(
        functools.partial(objective, preset=preset, only_varied_groups=only_varied_groups),
        Sees.STEPS,
        kind.on_environments(**settings),
        metrics=METRICS,
        check=check_reference_acts,
        why_unit_free=_why_unit_free,
        language=OnLanguage(kind.on_language(**settings), **of_loss),
    )


DR_GRPO = _make(presets.dr_grpo, advantage="centred")
DAPO = _make(presets.dapo, only_varied_groups=True)
GSPO = _make(presets.gspo)
GMPO = _make(presets.gmpo)
CISPO = _make(presets.cispo)
SAPO = _make(presets.sapo)
VESPO = _make(presets.vespo, weighs_steps=False)  # its kernel takes the ratio to the sampler's own policy
REINFORCE_PLUS_PLUS = _make(functools.partial(presets.grpo, aggregation="token_mean"), advantage="whitened_centred")
"""REINFORCE++ with the baseline that its authors advise for several responses a prompt: PPO's clip on steps."""
MAXRL = _make(presets.dr_grpo, advantage="relative", wants_returns_from_0=True)
"""MaxRL, with GRPO's bounds for the steps after the first."""

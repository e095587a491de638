"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice, component, count, number, static_arguments, traced_arguments
from haepo_jax.losses import NORMALIZATIONS, PROJECTIONS, SCORES, haepo_loss, trajectory_scores
from haepo_jax.methods.multipliers import make_dual, make_meta
from haepo_jax.methods.record import Adaptation, Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import CONSTANT, SCHEDULE, with_schedules
from haepo_jax.methods.settings import (
    REFERENCES,
    Chosen,
    EpochsConfig,
    HistoryConfig,
    ReferenceConfig,
    check_reference_acts,
    why_normalization_is_unit_free,
)
from haepo_jax.types import Metrics

OF_BATCH, OVER_BATCHES = ("fixed", "ess"), ("dual", "meta")
"""How sharpness, entropy and the reference's strength are set: by the batch alone, or by what earlier ones gave."""

_SCORE = "haepo.score"


@with_schedules
@dataclasses.dataclass(frozen=True)
class HaepoLossConfig:
    """The HAEPO loss."""

    score: str = component("log_ratio", SCORES)
    """What of each episode makes its weight: the `sum` of its log-probabilities, their `mean`, the `log_ratio` to
    the policy that played it, or `package.module:attribute`, a function of the log-likelihoods `[..., M]` and the
    `haepo_jax.methods.Group` that gives scores `[..., M]`."""
    score_kwargs: Mapping[str, Any] = static_arguments()
    """Arguments of a score from outside that decide the program."""
    score_params: Mapping[str, float] = traced_arguments()
    """Arguments of a score from outside that may vary, and be swept, within one program."""
    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""
    temperature: float = number(1.0, above=0.0)
    """What scores are divided by before they make weights; the larger, the more even the weights."""
    projection: str = choice("reverse", PROJECTIONS)
    """Which divergence from the target's weights the loss lowers: `reverse`, that of the weights from the target's,
    which is the paper's loss; or `forward`, that of the target's from the weights."""
    adapt: str = choice("fixed", OF_BATCH)
    """How the sharpness b of the target is set: `fixed` by entropy_coef + kl_coef, or for each group by `ess`, so that
    the returns pick a target_effective_sample_size of it; entropy_coef and kl_coef are then shares of b."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99, only_with={"adapt": ("ess",)})
    """Rho: how many of a group's trajectories its returns pick, as a share of all; 0.05 keeps the best few, 0.9 nearly
    all. The target is then the same for rewards in any unit."""
    entropy_coef: float = number(5e-3, low=0.0)
    """Beta: weight of the entropy of the weights, which the loss raises. With adapt `ess` its ratio to kl_coef alone
    counts: b times entropy_coef / (entropy_coef + kl_coef) is the weight."""
    kl_coef: float = number(5e-3, low=0.0)
    """Lambda: weight of the divergence from the reference policy's weights, which the loss lowers. With adapt `ess`
    the rest of b is its weight."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class HaepoConfig(EpochsConfig, HistoryConfig, HaepoLossConfig, ReferenceConfig):
    """HAEPO on an environment.

    The defaults that differ from those of the loss are of the one setting for every task (docs/method.md).
    """

    temperature: float = number(4.0, above=0.0)
    projection: str = choice("forward", PROJECTIONS)
    kl_coef: float = number(0.0, low=0.0)
    reference: str = choice("none", REFERENCES)
    history: int = count(7, low=0)
    adapt: str = choice("ess", OF_BATCH + OVER_BATCHES)
    """How the weights of the entropy and of the KL are set, whose sum is the temperature b of the target: `fixed` by
    entropy_coef and kl_coef. `ess` sets b for each batch, so that its returns pick a target_effective_sample_size of
    it; entropy_coef and kl_coef are then shares of b. `dual` and `meta` begin with entropy_coef and kl_coef and move
    both after each batch: `dual` so that the weights keep a target_effective_sample_size and a target_kl, `meta` so
    that the next batch gains."""
    target_effective_sample_size: float = number(0.5, above=0.0, high=0.99, only_with={"adapt": ("ess", "dual")})
    """Rho, a share of the batch's trajectories. `ess`: how many its returns pick; 0.05 keeps the best few, 0.9 nearly
    all, whatever the unit of the rewards. `dual`: what the weights are worth at the last step on a batch."""
    target_kl: float = number(
        0.1,
        above=0.0,
        only_with={"adapt": ("dual",), "reference": REFERENCES[1:]},
    )
    """Divergence from the reference's weights that `dual` allows the weights at the last step on a batch, in nats."""
    dual_learning_rate: float = number(0.1, above=0.0, only_with={"adapt": ("dual",)})
    """The most by which the logarithm of a weight changes after a batch, with adapt `dual`."""
    meta_learning_rate: float = number(0.1, above=0.0, only_with={"adapt": ("meta",)})
    """The most by which the logarithm of a weight changes after a batch, with adapt `meta`."""


def objective(settings: HaepoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes HAEPO's loss of log-likelihoods `[..., M]`, with the metrics of its record.

    `returns_sum_not_positive` is 1 where `sum` normalisation had to drop the returns.
    """
    scores = _scores(settings, group)
    reference_scores = None if reference_log_likelihoods is None else scores(reference_log_likelihoods)
    kl_coef = 0 if reference_scores is None else settings.kl_coef
    total = settings.entropy_coef + kl_coef
    kl_share = jnp.where(total > 0, kl_coef / jnp.where(total > 0, total, 1), 0)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = haepo_loss(
            scores(log_likelihoods),
            group.returns,
            reference_scores,
            entropy_coef=settings.entropy_coef,
            kl_coef=kl_coef,
            temperature=settings.temperature,
            normalization=settings.normalization,
            projection=settings.projection,
            target_effective_sample_size=settings.target_effective_sample_size if settings.adapt == "ess" else None,
            where=group.valid,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "max_weight": terms.max_weight,
            "weights_entropy": terms.entropy,
            "weights_kl": terms.kl,
            "returns_sum_not_positive": terms.returns_sum_not_positive,
            "target_temperature": terms.target_temperature,
            "target_effective_sample_size": terms.target_effective_sample_size,
            "entropy_weight": terms.target_temperature * (1 - kl_share),
            "kl_weight": terms.target_temperature * kl_share,
        }
        return loss, make_scalars(metrics)

    return loss_of


def _scores(settings: HaepoLossConfig, group: Group) -> Callable[[jax.Array], jax.Array]:
    """Makes scores `[..., M]` of log-likelihoods `[..., M]`, by a built-in score or one from outside."""
    if not components.is_outside(settings.score):
        return functools.partial(
            trajectory_scores,
            kind=settings.score,
            lengths=group.lengths,
            behaviour_log_likelihoods=group.behaviour_log_likelihoods,
        )
    outside = components.load(_SCORE, settings.score)
    arguments = {"kwargs": settings.score_kwargs, "params": settings.score_params}

    def scores_of(log_likelihoods: jax.Array) -> jax.Array:
        found = components.call(_SCORE, outside, log_likelihoods, group, **arguments)
        scores = components.checked_numbers(
            f"config.{_SCORE} {settings.score}",
            found,
            log_likelihoods.shape,
            f"real numbers of the shape of the log-likelihoods, {log_likelihoods.shape}",
            real=True,
        )
        return scores.astype(log_likelihoods.dtype)

    return scores_of


def _check(chosen: Chosen) -> None:
    check_reference_acts(chosen)
    settings: HaepoConfig = chosen.settings
    if settings.projection == "forward" and settings.adapt == "fixed" and _may_both_be_0(chosen):
        raise ConfigError(
            f"{chosen.where('entropy_coef')} 0 with kl_coef 0 leaves the target of projection forward without a "
            f"temperature, which is their sum; set one of them above 0, or {chosen.where('adapt')} to ess."
        )
    if settings.adapt in OVER_BATCHES:
        _check_multipliers(chosen)
    if components.is_outside(settings.score):
        swept = {name.removeprefix("score_params."): values[0] for name, values in chosen.swept.items() if "." in name}
        components.check_arguments(
            _SCORE,
            components.load(_SCORE, settings.score),
            positional=2,
            kwargs=settings.score_kwargs,
            params={**settings.score_params, **swept},
        )


def _check_multipliers(chosen: Chosen) -> None:
    settings: HaepoConfig = chosen.settings
    where = f"{chosen.where('adapt')} {settings.adapt}"
    weights = ["entropy_coef"] + ["kl_coef"] * (settings.reference != "none")
    for name in weights:
        if 0 in chosen.values(name):
            remedy = ", or reference to none" if name == "kl_coef" else ""
            raise ConfigError(
                f"{where} begins with {chosen.where(name)} and multiplies it, so that 0 would stay 0; set it above "
                f"0{remedy}."
            )
    for name in weights:
        schedule = name + SCHEDULE
        if getattr(settings, schedule) != CONSTANT:
            raise ConfigError(
                f"{where} moves {chosen.where(name)} itself, so that it takes no schedule; set "
                f"{chosen.where(schedule)} to {CONSTANT}."
            )
    acts = settings.adapt == "meta" and settings.projection == "forward"
    if settings.score == "log_ratio" and settings.num_epochs == 1 and not acts:
        raise ConfigError(
            f"{where} learns from the weights at the last step on a batch, which are all equal with score log_ratio "
            f"and {chosen.where('num_epochs')} 1; take at least 2 epochs, or another score."
        )


def _may_both_be_0(chosen: Chosen) -> bool:
    return 0 in chosen.values("entropy_coef") and 0 in chosen.values("kl_coef")


def _make_adaptation(settings: HaepoLossConfig) -> Adaptation | None:
    if not isinstance(settings, HaepoConfig) or settings.adapt in OF_BATCH:
        return None
    make = {"dual": make_dual, "meta": make_meta}[settings.adapt]
    return make(has_reference=settings.reference != "none")


def _upgrade(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of before these could be chosen."""
    chosen_later: dict[str, Any] = {"projection": "reverse", "adapt": "fixed"}
    if "reference" in settings:  # those of an environment; language models have no earlier batches
        chosen_later["history"] = 0
    return chosen_later | dict(settings)


METHOD = Method(
    objective,
    Sees.SUMS,
    HaepoConfig(),
    metrics=(
        *("effective_sample_size", "max_weight", "weights_entropy", "weights_kl", "returns_sum_not_positive"),
        *("target_temperature", "target_effective_sample_size", "entropy_weight", "kl_weight"),
    ),
    check=_check,
    upgrade=_upgrade,
    why_unit_free=why_normalization_is_unit_free,
    adaptation=_make_adaptation,
    language=OnLanguage(HaepoLossConfig(), named_by=("score",)),
)

"""HAEPO: several gradient steps on the HAEPO loss of one batch, then the reference moves."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from haepo_jax import components
from haepo_jax.fields import choice, component, number, static_arguments, traced_arguments
from haepo_jax.losses import NORMALIZATIONS, SCORES, haepo_loss, trajectory_scores
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.settings import Chosen, EpochsConfig, ReferenceConfig, check_reference_acts
from haepo_jax.types import Metrics

_SCORE = "haepo.score"


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
    entropy_coef: float = number(5e-3, low=0.0)
    """Beta: weight of the entropy of the weights, which the loss raises."""
    kl_coef: float = number(5e-3, low=0.0)
    """Lambda: weight of the divergence from the reference policy's weights, which the loss lowers."""


@dataclasses.dataclass(frozen=True)
class HaepoConfig(EpochsConfig, HaepoLossConfig, ReferenceConfig):
    """HAEPO on an environment."""


def objective(settings: HaepoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes HAEPO's loss of log-likelihoods `[..., M]`, with `effective_sample_size`, `max_weight`, `weights_entropy`,
    `weights_kl` and `returns_sum_not_positive` (1 where `sum` normalisation had to drop the returns).
    """
    scores = _scores(settings, group)
    reference_scores = None if reference_log_likelihoods is None else scores(reference_log_likelihoods)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = haepo_loss(
            scores(log_likelihoods),
            group.returns,
            reference_scores,
            entropy_coef=settings.entropy_coef,
            kl_coef=0 if reference_scores is None else settings.kl_coef,
            temperature=settings.temperature,
            normalization=settings.normalization,
            where=group.valid,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "max_weight": terms.max_weight,
            "weights_entropy": terms.entropy,
            "weights_kl": terms.kl,
            "returns_sum_not_positive": terms.returns_sum_not_positive,
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
    if components.is_outside(settings.score):
        swept = {name.removeprefix("score_params."): values[0] for name, values in chosen.swept.items() if "." in name}
        components.check_arguments(
            _SCORE,
            components.load(_SCORE, settings.score),
            positional=2,
            kwargs=settings.score_kwargs,
            params={**settings.score_params, **swept},
        )


METHOD = Method(
    objective,
    Sees.SUMS,
    HaepoConfig(),
    metrics=("effective_sample_size", "max_weight", "weights_entropy", "weights_kl", "returns_sum_not_positive"),
    check=_check,
    language=OnLanguage(HaepoLossConfig(), named_by=("score",)),
)

"""What the HAEPO loss and its coefficients share. Private to `haepo_jax.losses`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_max,
    all_sum,
    as_mask,
    check_choice,
    check_coefficient,
    check_rank,
    check_reference,
    check_share,
    is_concrete,
    is_concrete_zero,
    same_float,
    unless_zero,
)
from haepo_jax.losses.returns import normalized, returns_sum_not_positive
from haepo_jax.losses.targets import TARGETS, log_weights_of, target_temperature
from haepo_jax.losses.weights import effective_sample_size, plackett_luce_log_weights, weights_entropy, weights_kl

PROJECTIONS = ("reverse", "forward")
"""Which divergence of the weights from their target the loss is."""


class HaepoMetrics(NamedTuple):
    """Terms of a HAEPO loss, for each group.

    The loss of a group is `policy_loss - entropy_coef * entropy + kl_coef * kl` under the `reverse` projection, with
    the two coefficients as given or, with a target, as its temperature is shared between them. Less a constant that
    is `target_temperature * target_kl`. Under the `forward` projection it is `target_kl` plus the target's entropy.

    The target's three describe :math:`w^*`, whatever the projection and with or without a target effective sample
    size. They are constants to the gradient, and cost nothing under `jit` where they are not used.
    """

    policy_loss: jax.Array
    """`[...]` minus the weighted normalised return, `-sum_k w_k R~_k`."""
    entropy: jax.Array
    """`[...]` entropy of the weights, in nats."""
    kl: jax.Array
    """`[...]` divergence of the weights from the reference's, in nats; 0 without reference scores."""
    log_weights: jax.Array
    """`[..., M]` logarithm of the Plackett-Luce weights, -inf where masked."""
    normalized_returns: jax.Array
    """`[..., M]` returns after normalisation, 0 where masked."""
    effective_sample_size: jax.Array
    """`[...]` `1 / sum_k w_k^2`."""
    max_weight: jax.Array
    """`[...]` largest weight."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""
    returns_sum_not_positive: jax.Array
    """`[...]` boolean, True where `sum` normalisation gave up and set the normalised returns to 0."""
    target_temperature: jax.Array
    """`[...]` temperature b of the target, in units of the normalised returns: `entropy_coef + kl_coef`, or what the
    target effective sample size asks for. 0 for a group with no valid trajectory."""
    target_effective_sample_size: jax.Array
    """`[...]` `1 / sum_k w*_k^2`, between 1 and M; 0 for a group with no valid trajectory."""
    target_kl: jax.Array
    """`[...]` divergence that the loss lowers, in nats: of the weights from the target's (`reverse`), or of the
    target's from the weights (`forward`). Very large where b is 0, as the target is then a single point."""


class Settings(NamedTuple):
    """Arguments of `haepo_loss` that are neither scores nor returns."""

    entropy_coef: ArrayLike
    kl_coef: ArrayLike
    temperature: ArrayLike
    normalization: str
    projection: str
    target: str
    target_effective_sample_size: ArrayLike | None
    where: ArrayLike | None
    axis_name: AxisName


class Terms(NamedTuple):
    metrics: HaepoMetrics
    group_losses: jax.Array
    """`[...]` loss of each group, 0 for those without a valid trajectory."""
    entropy_coef: jax.Array
    """Weight of the entropy under the reverse projection, a scalar or `[...]`."""
    kl_coef: jax.Array
    """That of the penalty."""
    penalty_log_weights: jax.Array | None
    """`[..., M]` what the penalty measures against: the reference's log-weights, or the policy's own where the weight
    of the penalty is 0, so that infinities of the reference add 0 then; None where there is no penalty."""
    target_log_weights: jax.Array
    """`[..., M]` logarithm of the target's weights."""


def haepo_terms(
    scores: ArrayLike, returns: ArrayLike, reference_scores: ArrayLike | None, settings: Settings
) -> Terms:
    """Computes everything that the loss and its coefficients share."""
    _check(settings, reference_scores)
    temperature, axis_name = settings.temperature, settings.axis_name
    given = {"scores": scores, "returns": returns}
    if reference_scores is not None:
        given["reference_scores"] = reference_scores
    scores, returns, *references = same_float(**given)
    check_rank("scores", scores)
    mask = as_mask(settings.where, scores, "scores")
    returns = lax.stop_gradient(returns)
    normalized_returns = normalized("normalization", settings.normalization, returns, mask, axis_name)
    log_weights = plackett_luce_log_weights(scores, temperature=temperature, where=mask, axis_name=axis_name)
    weights = jnp.exp(log_weights)
    fixed_log_weights = lax.stop_gradient(log_weights)
    # A trajectory of score -inf takes no part, and so not in the target either.
    present = mask & (log_weights != -jnp.inf)
    b, share = _temperature_and_share(settings, normalized_returns, present)
    entropy_coef, kl_coef = (jnp.asarray(coef, scores.dtype) for coef in (settings.entropy_coef, settings.kl_coef))
    if settings.target_effective_sample_size is not None:
        entropy_coef, kl_coef = b * (1 - share), b * share
    kl = penalty = jnp.zeros(scores.shape[:-1], scores.dtype)
    reference_log_weights = penalty_log_weights = None
    if references:
        reference = plackett_luce_log_weights(
            lax.stop_gradient(references[0]), temperature=temperature, where=mask, axis_name=axis_name
        )
        kl = penalty = weights_kl(log_weights, reference, axis_name=axis_name)
        if not is_concrete_zero(settings.kl_coef):
            reference_log_weights = reference
            if settings.target_effective_sample_size is None:
                penalty_log_weights = unless_zero(settings.kl_coef, reference, fixed_log_weights)
            else:  # one weight a group
                penalty_log_weights = jnp.where((kl_coef == 0)[..., None], fixed_log_weights, reference)
            if penalty_log_weights is not reference:
                penalty = weights_kl(log_weights, penalty_log_weights, axis_name=axis_name)
    num_valid = all_sum(mask.astype(jnp.int32), axis_name)
    if settings.normalization == "sum":
        not_positive = returns_sum_not_positive(returns, where=mask, axis_name=axis_name)
    else:
        not_positive = jnp.zeros(num_valid.shape, bool)
    tilt = _tilt(share, reference_log_weights)
    target = log_weights_of(settings.target, normalized_returns, tilt, b, present, axis_name)
    fixed_target = lax.stop_gradient(target)
    forward = settings.projection == "forward"
    divergence = (fixed_target, fixed_log_weights) if forward else (fixed_log_weights, fixed_target)
    metrics = HaepoMetrics(
        policy_loss=-all_sum(weights * normalized_returns, axis_name),
        entropy=weights_entropy(log_weights, axis_name=axis_name),
        kl=kl,
        log_weights=log_weights,
        normalized_returns=normalized_returns,
        effective_sample_size=effective_sample_size(log_weights, axis_name=axis_name),
        max_weight=all_max(weights, axis_name),
        num_valid=num_valid,
        returns_sum_not_positive=not_positive,
        target_temperature=lax.stop_gradient(jnp.where(num_valid > 0, b, 0)),
        target_effective_sample_size=effective_sample_size(fixed_target, axis_name=axis_name),
        target_kl=weights_kl(*divergence, axis_name=axis_name),
    )
    if forward:
        group_losses = _cross_entropy(target, log_weights, axis_name)
    else:
        group_losses = metrics.policy_loss - entropy_coef * metrics.entropy
        if penalty_log_weights is not None:
            group_losses += kl_coef * penalty
    return Terms(metrics, group_losses, entropy_coef, kl_coef, penalty_log_weights, target)


def _temperature_and_share(
    settings: Settings, normalized_returns: jax.Array, present: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Temperature of the target, a scalar or `[...]`, and the scalar share of it that goes to the reference."""
    given = (jnp.asarray(coef, normalized_returns.dtype) for coef in (settings.entropy_coef, settings.kl_coef))
    entropy_coef, kl_coef = (jnp.where(coef < 0, 0, coef) for coef in given)
    total = entropy_coef + kl_coef
    share = jnp.where(total == 0, 0, kl_coef / jnp.where(total == 0, 1, total))
    if settings.target_effective_sample_size is None:
        return total, share
    found = target_temperature(
        normalized_returns,
        kind=settings.target,
        effective_sample_size=settings.target_effective_sample_size,
        where=present,
        axis_name=settings.axis_name,
    )
    return found, share


def _tilt(share: jax.Array, reference_log_weights: jax.Array | None) -> jax.Array | None:
    """Log-weights of the reference to the power of its share: those of a share of 0 are uniform, whatever it holds."""
    if reference_log_weights is None:
        return None
    absent = reference_log_weights == -jnp.inf
    tilt = share * jnp.where(absent | (share == 0), 0, reference_log_weights)
    return jnp.where(absent & (share != 0), -jnp.inf, tilt)


def _cross_entropy(target_log_weights: jax.Array, log_weights: jax.Array, axis_name: AxisName) -> jax.Array:
    """Minus the mean of the log-weights under the target, `[...]`."""
    active = target_log_weights != -jnp.inf
    safe_target, safe = jnp.where(active, target_log_weights, 0), jnp.where(active, log_weights, 0)
    return -all_sum(jnp.where(active, jnp.exp(safe_target) * safe, 0), axis_name)


def _check(settings: Settings, reference_scores: ArrayLike | None) -> None:
    coefficients = {"kl_coef": settings.kl_coef, "entropy_coef": settings.entropy_coef}
    for name, coef in coefficients.items():
        check_coefficient(name, coef)
    check_choice("projection", settings.projection, PROJECTIONS)
    check_choice("target", settings.target, TARGETS)
    if settings.projection == "reverse" and settings.target != "boltzmann":
        raise ValueError(
            f"target {settings.target!r} goes with projection 'forward': the reverse one is the paper's loss, whose "
            "target is 'boltzmann'."
        )
    forward, share = settings.projection == "forward", settings.target_effective_sample_size
    if share is not None:
        check_share("target_effective_sample_size", share)
    if forward or share is not None:
        for name, coef in coefficients.items():
            if is_concrete(coef) and np.asarray(coef) < 0:
                raise ValueError(f"{name} must be at least 0 where the loss has a target, got {coef}.")
    if forward and share is None and all(is_concrete_zero(coef) for coef in coefficients.values()):
        raise ValueError(
            "projection 'forward' needs a target: give target_effective_sample_size, or an entropy_coef or kl_coef "
            "of more than 0, whose sum is its temperature."
        )
    check_reference(settings.kl_coef, "reference_scores", reference_scores)

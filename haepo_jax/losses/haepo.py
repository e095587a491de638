"""The HAEPO loss, and its gradient with respect to the scores in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_max,
    all_sum,
    as_mask,
    check_coefficient,
    check_rank,
    is_concrete_zero,
    same_float,
    unless_zero,
)
from haepo_jax.losses.returns import normalized, returns_sum_not_positive
from haepo_jax.losses.weights import effective_sample_size, plackett_luce_log_weights, weights_entropy, weights_kl


class HaepoMetrics(NamedTuple):
    """Terms of a HAEPO loss, for each group.

    `loss` is the mean over groups of `policy_loss - entropy_coef * entropy + kl_coef * kl`.
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


class _Terms(NamedTuple):
    metrics: HaepoMetrics
    reference_log_weights: jax.Array | None
    """`[..., M]` what the penalty measures against: the policy's own log-weights where a traced `kl_coef` is 0, so
    that infinities of the reference add 0 then; None where there is no penalty."""
    kl: jax.Array
    """`[...]` what the penalty measures."""
    num_groups: jax.Array


def haepo_loss(
    scores: ArrayLike,
    returns: ArrayLike,
    reference_scores: ArrayLike | None = None,
    *,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    temperature: ArrayLike = 1.0,
    normalization: str = "zscore",
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, HaepoMetrics]:
    r"""Computes the HAEPO loss: weighted normalised return, entropy of the weights and soft KL to a reference policy.

    .. math::
        w = \mathrm{softmax}(S / \tau), \qquad
        \ell = \sum_k w_k \left(-\tilde R_k + \beta \log w_k + \lambda (\log w_k - \log w_k^{ref})\right)

    averaged over the groups that have a valid trajectory. The M trajectories of the last axis compete
    with one another; leading axes are independent groups. Gradients flow through `scores` alone. The
    KL term has no gradient while the reference policy equals the trained one.

    Args:
      scores: `[..., M]` scores :math:`S_k`, see `trajectory_scores`: one number a trajectory. Log-probabilities of
        steps `[M, T]` would be read as M groups of T trajectories; `trajectory_log_likelihood` sums them first.
      returns: `[..., M]` returns :math:`R_k`, in the units of the reward.
      reference_scores: `[..., M]` scores of the same trajectories under the reference policy.
      entropy_coef: scalar :math:`\beta`; positive spreads the weights.
      kl_coef: scalar :math:`\lambda`; positive draws the weights to the reference's. Where it is 0, traced or not,
        the reference adds exactly 0 to value and gradient, whatever it holds.
      temperature: scalar :math:`\tau > 0`.
      normalization: `zscore`, `sum` or `none`, see `normalize_returns`. `sum` refuses returns whose sum is
        not positive; where they are traced it drops the return term of that group and flags it in
        `HaepoMetrics.returns_sum_not_positive`.
      where: `[..., M]` boolean, True for the trajectories that count. A masked trajectory equals one that
        is not there, in value and gradient; a group that is all masked contributes nothing.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`. Every device
        gets the same, global loss; take `lax.pmean` of the gradient of replicated parameters.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `HaepoMetrics` for each group.

    Raises:
      ValueError: `kl_coef` is not a concrete 0 and there are no `reference_scores`; `temperature` is not
        positive; `normalization` is unknown, or is `sum` and the concrete returns do not sum to a
        positive number; a coefficient is an array or NaN; `axis_name` is not mapped.
      TypeError: `where` is not boolean, a coefficient is no number, or an array holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([0.0, 1.0])
      >>> loss, metrics = haepo_loss(scores, returns, entropy_coef=0.0, kl_coef=0.0)
      >>> print(loss, metrics.normalized_returns)
      -0.5 [-1.  1.]

    Source: HAEPO (arXiv 2508.18884), section 3.
    """
    terms = _terms(
        scores, returns, reference_scores, entropy_coef, kl_coef, temperature, normalization, where, axis_name
    )
    metrics = terms.metrics
    dtype = metrics.policy_loss.dtype
    group_losses = metrics.policy_loss - jnp.asarray(entropy_coef, dtype) * metrics.entropy
    if terms.reference_log_weights is not None:
        group_losses += jnp.asarray(kl_coef, dtype) * terms.kl
    return jnp.sum(group_losses) / terms.num_groups, metrics


def haepo_coefficients(
    scores: ArrayLike,
    returns: ArrayLike,
    reference_scores: ArrayLike | None = None,
    *,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    temperature: ArrayLike = 1.0,
    normalization: str = "zscore",
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the derivative of `haepo_loss` with respect to the scores, in closed form.

    .. math:: c_k = \frac{\partial \ell}{\partial S_k} = \frac{w_k}{\tau} \left(f_k - \sum_j w_j f_j\right),
        \qquad f_k = -\tilde R_k + \beta \log w_k + \lambda (\log w_k - \log w_k^{ref})

    divided by the number of groups that have a valid trajectory. With c held constant, the surrogate
    :math:`\sum_k c_k S_k(\theta)` has the gradient of the loss, so that the gradient of a group can be
    accumulated one trajectory at a time, though the softmax couples them all: one pass without a graph
    for the scores, one that adds up :math:`c_k \nabla S_k`. The pieces' gradients are summed, not averaged
    (`optax.MultiSteps(..., use_grad_mean=False)`; docs/method.md shows it).

    Args:
      scores: as for `haepo_loss`, as are all the other arguments.
      returns: `[..., M]`.
      reference_scores: `[..., M]`.
      entropy_coef: scalar.
      kl_coef: scalar.
      temperature: scalar.
      normalization: `zscore`, `sum` or `none`.
      where: `[..., M]` boolean.
      axis_name: name of the mapped axis over which M is spread. Each device gets the coefficients of its
        own trajectories. Differentiate the `lax.psum` of the surrogates and take `lax.pmean` of the
        gradient of replicated parameters, as for the loss. (Under `shard_map(..., check_vma=False)` and
        `vmap` that equals the `lax.psum` of the gradients of the local surrogates; with `check_vma=True`
        JAX has summed those already, and a second `psum` would multiply by the number of devices.)

    Returns:
      `[..., M]` coefficients, a constant to the gradient; they sum to 0 in each group, and are 0 where masked.

    Raises:
      ValueError, TypeError, AssertionError: as `haepo_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([0.0, 1.0])
      >>> print(haepo_coefficients(scores, returns, entropy_coef=0.0, kl_coef=0.0))
      [ 0.375 -0.375]

    Source: differentiate the loss of HAEPO (arXiv 2508.18884); the terms in d log w cancel as sum_k dw_k = 0.
    """
    terms = _terms(
        scores, returns, reference_scores, entropy_coef, kl_coef, temperature, normalization, where, axis_name
    )
    log_weights = terms.metrics.log_weights
    dtype = log_weights.dtype
    active = jnp.exp(log_weights) != 0
    safe = jnp.where(active, log_weights, 0)
    weights = jnp.where(active, jnp.exp(safe), 0)
    values = -terms.metrics.normalized_returns + jnp.asarray(entropy_coef, dtype) * safe
    if terms.reference_log_weights is not None:
        safe_reference = jnp.where(active, terms.reference_log_weights, 0)
        values += jnp.asarray(kl_coef, dtype) * (safe - safe_reference)
    centred = values - all_sum(weights * values, axis_name)[..., None]
    slope = weights / jnp.asarray(temperature, dtype) * centred / terms.num_groups
    return lax.stop_gradient(jnp.where(active, slope, 0))


def _terms(
    scores: ArrayLike,
    returns: ArrayLike,
    reference_scores: ArrayLike | None,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    temperature: ArrayLike,
    normalization: str,
    where: ArrayLike | None,
    axis_name: AxisName,
) -> _Terms:
    """Everything that the loss and its coefficients share."""
    check_coefficient("kl_coef", kl_coef)
    check_coefficient("entropy_coef", entropy_coef)
    if reference_scores is None and not is_concrete_zero(kl_coef):
        raise ValueError(
            f"kl_coef {kl_coef} needs reference_scores; give them, or set kl_coef to the number 0 (not traced)."
        )
    given = {"scores": scores, "returns": returns}
    if reference_scores is not None:
        given["reference_scores"] = reference_scores
    scores, returns, *references = same_float(**given)
    check_rank("scores", scores)
    mask = as_mask(where, scores, "scores")
    returns = lax.stop_gradient(returns)
    normalized_returns = normalized("normalization", normalization, returns, mask, axis_name)
    log_weights = plackett_luce_log_weights(scores, temperature=temperature, where=mask, axis_name=axis_name)
    weights = jnp.exp(log_weights)
    kl = penalty = jnp.zeros(scores.shape[:-1], scores.dtype)
    penalized = None
    if references:
        reference_log_weights = plackett_luce_log_weights(
            lax.stop_gradient(references[0]), temperature=temperature, where=mask, axis_name=axis_name
        )
        kl = penalty = weights_kl(log_weights, reference_log_weights, axis_name=axis_name)
        if not is_concrete_zero(kl_coef):
            penalized = unless_zero(kl_coef, reference_log_weights, lax.stop_gradient(log_weights))
            if penalized is not reference_log_weights:
                penalty = weights_kl(log_weights, penalized, axis_name=axis_name)
    num_valid = all_sum(mask.astype(jnp.int32), axis_name)
    if normalization == "sum":
        not_positive = returns_sum_not_positive(returns, where=mask, axis_name=axis_name)
    else:
        not_positive = jnp.zeros(num_valid.shape, bool)
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
    )
    num_groups = jnp.maximum(jnp.sum(num_valid > 0), 1).astype(scores.dtype)
    return _Terms(metrics, penalized, penalty, num_groups)

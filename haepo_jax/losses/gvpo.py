"""GVPO: implicit rewards that differ within a group as the returns do."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_sum,
    as_mask,
    check_finite_positive,
    check_rank,
    deviations,
    reference_log_ratios,
    same_float,
)
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups


class GvpoMetrics(NamedTuple):
    """Terms of a GVPO loss, for each group."""

    policy_loss: jax.Array
    """`[...]` half the variance of the residuals."""
    residuals: jax.Array
    """`[..., M]` centred implicit rewards less centred returns, 0 where masked."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""


def gvpo_loss(
    log_likelihoods: ArrayLike,
    reference_log_likelihoods: ArrayLike,
    returns: ArrayLike,
    *,
    beta: ArrayLike,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, GvpoMetrics]:
    r"""Computes the GVPO loss: half the variance, within a group, of what implicit rewards and returns differ by.

    With the implicit rewards :math:`s_k = \beta (L_k - L_k^{ref})`,

    .. math::
        \ell = \frac{1}{2 (M - 1)} \sum_k e_k^2, \qquad
        e_k = (s_k - mean(s)) - (R_k - mean(R)), \qquad
        \frac{\partial \ell}{\partial L_k} = \frac{\beta \, e_k}{M - 1}

    averaged over the groups that have a valid trajectory. It is 0 where the policy is the reference times
    :math:`\exp(R / \beta)` on the group, whoever sampled it: there is no ratio to the behaviour policy. At the
    reference the slope is that of REINFORCE with the group's mean as its baseline, times beta. What HAEPO's
    `reverse` slope has in common with it: docs/method.md.

    Args:
      log_likelihoods: `[..., M]` log-likelihoods :math:`L_k`, in nats.
      reference_log_likelihoods: `[..., M]` those under the reference policy, which may be the one that sampled; a
        constant to the gradient.
      returns: `[..., M]` returns :math:`R_k`; a constant to the gradient.
      beta: scalar :math:`\beta > 0`, in units of the return a nat.
      reduce_fn: what makes a scalar of the losses of the groups, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`.
      where: `[..., M]` boolean, True for the trajectories that count. A masked trajectory equals one that is
        not there; a lone valid one has the loss 0.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`. Every device gets the
        same, global loss; take `lax.pmean` of the gradient of replicated parameters.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64 (`[...]` losses without `reduce_fn`), and `GvpoMetrics`
      for each group.

    Raises:
      ValueError: `beta` is not a scalar, or concrete and not positive; the arrays are scalars; `reduce_fn` returns no
        scalar; `axis_name` is not mapped.
      TypeError: `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> loss, metrics = gvpo_loss(jnp.array([-1.0, -2.0]), jnp.array([-1.0, -1.0]), jnp.array([0.0, 3.0]), beta=1.0)
      >>> print(loss, metrics.residuals)  # implicit rewards 0 and -1 against returns 0 and 3
      4.0 [ 2. -2.]

    Source: Zhang et al. (2025, arXiv 2504.19599), whose algorithm divides by M - 1. REBEL (arXiv 2404.16767)
    is the same square over pairs.
    """
    check_finite_positive("beta", beta)
    check_reduce_fn(reduce_fn)
    log_likelihoods, reference, returns = same_float(
        log_likelihoods=log_likelihoods, reference_log_likelihoods=reference_log_likelihoods, returns=returns
    )
    check_rank("log_likelihoods", log_likelihoods)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    ratios = reference_log_ratios(log_likelihoods, reference, mask)
    rewards = jnp.asarray(beta, ratios.dtype) * ratios
    # Centred apart: their difference alone would hide that equal returns deviate by exactly 0.
    implicit, count = deviations(rewards, mask, axis_name)
    explicit, _ = deviations(jnp.where(mask, lax.stop_gradient(returns), 0), mask, axis_name)
    residuals = implicit - explicit
    group_losses = all_sum(jnp.square(residuals), axis_name) / (2 * jnp.maximum(count[..., 0] - 1, 1))
    num_valid = all_sum(mask.astype(jnp.int32), axis_name)
    loss = reduce_groups(group_losses, num_valid > 0, reduce_fn)
    return loss, GvpoMetrics(group_losses, residuals, num_valid)

"""REINFORCE, with any advantages or with those of the other trajectories of the group."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import as_mask, check_rank, mean_where, same_float
from haepo_jax.losses.advantages import leave_one_out_advantages


class ReinforceMetrics(NamedTuple):
    """Terms of a REINFORCE loss, for each group."""

    policy_loss: jax.Array
    """`[...]` minus the mean of advantage times log-likelihood."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""


class RlooMetrics(NamedTuple):
    """Terms of an RLOO loss, for each group."""

    policy_loss: jax.Array
    """`[...]` minus the mean of advantage times log-likelihood."""
    advantages: jax.Array
    """`[..., M]` returns less the mean of the others', 0 where masked."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""


def reinforce_loss(
    log_likelihoods: ArrayLike, advantages: ArrayLike, *, where: ArrayLike | None = None
) -> tuple[jax.Array, ReinforceMetrics]:
    r"""Computes the REINFORCE loss: each trajectory's log-likelihood, pushed by its advantage.

    .. math:: \ell = -\frac{1}{M} \sum_k A_k L_k

    averaged over the groups that have a valid trajectory.

    Args:
      log_likelihoods: `[..., M]` log-likelihoods :math:`L_k`, in nats.
      advantages: `[..., M]` advantages :math:`A_k`, such as `normalize_returns(returns)`; a constant to the
        gradient.
      where: `[..., M]` boolean, True for the trajectories that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `ReinforceMetrics` for each group.

    Raises:
      ValueError: `log_likelihoods` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> loss, _ = reinforce_loss(jnp.array([-1.0, -2.0]), jnp.array([1.0, -1.0]))
      >>> print(loss)
      -0.5

    Source: Williams (1992), "Simple statistical gradient-following algorithms".
    """
    log_likelihoods, advantages = same_float(log_likelihoods=log_likelihoods, advantages=advantages)
    check_rank("log_likelihoods", log_likelihoods)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    # Both factors are masked, as 0 times infinity would be NaN; so is what an advantage of 0 multiplies.
    advantages = lax.stop_gradient(jnp.where(mask, advantages, 0))
    products = jnp.where(advantages == 0, 0, log_likelihoods) * advantages
    num_valid = jnp.sum(mask, axis=-1, dtype=jnp.int32)
    policy_loss = -mean_where(products, mask, axis=-1)
    return mean_where(policy_loss, num_valid > 0), ReinforceMetrics(policy_loss, num_valid)


def rloo_loss(
    log_likelihoods: ArrayLike, returns: ArrayLike, *, where: ArrayLike | None = None
) -> tuple[jax.Array, RlooMetrics]:
    r"""Computes the RLOO loss: REINFORCE in which each return is measured against the mean of the others.

    .. math:: \ell = -\frac{1}{M} \sum_k \left(R_k - \frac{1}{M - 1} \sum_{j \ne k} R_j\right) L_k

    averaged over the groups that have a valid trajectory. The returns keep their scale. A group with a single
    valid trajectory has nothing to compare it with: its loss and gradient are 0.

    Args:
      log_likelihoods: `[..., M]` log-likelihoods :math:`L_k`, in nats.
      returns: `[..., M]` returns :math:`R_k`; a constant to the gradient.
      where: `[..., M]` boolean, True for the trajectories that count. A masked trajectory equals one that is
        not there.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `RlooMetrics` for each group.

    Raises:
      ValueError: `log_likelihoods` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> loss, metrics = rloo_loss(jnp.array([-1.0, -2.0]), jnp.array([3.0, 1.0]))
      >>> print(loss, metrics.advantages)
      -1.0 [ 2. -2.]

    Source: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024,
    arXiv 2402.14740).
    """
    log_likelihoods, returns = same_float(log_likelihoods=log_likelihoods, returns=returns)
    check_rank("log_likelihoods", log_likelihoods)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    advantages = leave_one_out_advantages(returns, where=mask)
    loss, metrics = reinforce_loss(log_likelihoods, advantages, where=mask)
    return loss, RlooMetrics(metrics.policy_loss, advantages, metrics.num_valid)

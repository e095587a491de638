"""Losses to compare HAEPO with, of the same form: arrays in, `(loss, metrics)` out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import as_mask, check_rank, same_float


class ReinforceMetrics(NamedTuple):
    """What a REINFORCE loss is made of, for each group."""

    policy_loss: jax.Array
    """`[...]` minus the mean of advantage times log-likelihood."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""


def reinforce_loss(
    log_likelihoods: ArrayLike, advantages: ArrayLike, *, where: ArrayLike | None = None
) -> tuple[jax.Array, ReinforceMetrics]:
    r"""REINFORCE: each trajectory's log-likelihood, pushed by its advantage.

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
    # Both factors are masked: 0 times a masked infinity would be NaN.
    products = jnp.where(mask, log_likelihoods, 0) * lax.stop_gradient(jnp.where(mask, advantages, 0))
    num_valid = jnp.sum(mask, axis=-1, dtype=jnp.int32)
    policy_loss = -jnp.sum(products, axis=-1) / jnp.maximum(num_valid, 1).astype(products.dtype)
    loss = jnp.sum(policy_loss) / jnp.maximum(jnp.sum(num_valid > 0), 1).astype(products.dtype)
    return loss, ReinforceMetrics(policy_loss, num_valid)

"""The history of a trajectory as one number: the sum of its log-likelihoods."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import as_float, as_mask, check_rank


def trajectory_log_likelihood(log_probs: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    r"""Computes the log-likelihood of each trajectory: the sum of its steps' log-probabilities.

    .. math:: L_k = \sum_t \log \pi_\theta(a_t \mid s_t)

    The sum runs in float32, or in float64 for float64 input: at L near -800, bfloat16 would lose the
    differences that the softmax ranks by.

    Args:
      log_probs: `[..., T]` log-probability of the action taken at each step, in nats.
      where: `[..., T]` boolean, True for the steps that count. A masked step adds exactly 0 to the value
        and gets a gradient of exactly 0, whatever it holds (NaN and infinities included).

    Returns:
      `[...]` log-likelihoods in nats, float32 or float64.

    Raises:
      ValueError: `log_probs` is a scalar.
      TypeError: `where` is not boolean, or `log_probs` is complex.
      AssertionError: `where` has another shape than `log_probs`.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs = jnp.log(jnp.array([[0.5, 0.5, 0.25], [0.5, 1.0, 1.0]]))
      >>> valid = jnp.array([[True, True, True], [True, False, False]])
      >>> print(jnp.exp(trajectory_log_likelihood(log_probs, where=valid)))
      [0.0625 0.5   ]

    Source: HAEPO (arXiv 2508.18884), the cumulative log-likelihood of section 3.
    """
    log_probs = as_float("log_probs", log_probs)
    check_rank("log_probs", log_probs)
    if where is not None:
        log_probs = jnp.where(as_mask(where, log_probs, "log_probs"), log_probs, 0)
    return jnp.sum(log_probs, axis=-1)

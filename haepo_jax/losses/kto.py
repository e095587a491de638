"""The loss on single responses, each of which is said to be good or bad."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    as_booleans,
    as_mask,
    check_coefficient,
    check_finite_positive,
    check_same_shape,
    mean_where,
    reference_log_ratios,
    same_float,
)
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups


class KtoMetrics(NamedTuple):
    """Terms of a KTO loss, over all valid responses."""

    desirable_reward: jax.Array
    """Mean implicit reward of the desirable, beta times the log-ratio of policy to reference."""
    undesirable_reward: jax.Array
    """That of the others."""
    num_desirable: jax.Array
    """int32, valid responses that are desirable."""
    num_undesirable: jax.Array
    """int32, valid responses that are not."""


def kto_loss(
    log_likelihoods: ArrayLike,
    reference_log_likelihoods: ArrayLike,
    desirable: ArrayLike,
    *,
    beta: ArrayLike,
    kl: ArrayLike,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, KtoMetrics]:
    r"""Computes the KTO loss: desirable responses become likelier than the policy's usual ones, others less likely.

    .. math::
        d = L - L_{ref}, \qquad z = \max(0, KL), \qquad
        \ell = \begin{cases}
            \lambda_D \, (1 - \sigma(\beta (d - z))) & \text{desirable} \\
            \lambda_U \, (1 - \sigma(\beta (z - d))) & \text{undesirable}
        \end{cases}

    averaged over all valid responses. No pairs are needed; a return above the group's mean, or a checked answer, is a
    label as good as another. The slope is greatest where d = z and fades on both sides: what is hopeless or done
    already is left alone.

    Args:
      log_likelihoods: `[...]` log-likelihoods :math:`L` of the responses, in nats, of any shape.
      reference_log_likelihoods: `[...]` those under the reference policy; a constant to the gradient.
      desirable: `[...]` boolean, True for desirable responses.
      beta: scalar :math:`\beta > 0`, per nat.
      kl: scalar estimate of KL(policy, reference) in nats, a constant to the gradient; below 0 it is read as 0. The
        paper's is the mean log-ratio of responses to prompts that are not their own, so that no response sets its own
        point of reference. 0 measures against the reference policy (TRL's `apo_zero_unpaired`).
      desirable_weight: scalar :math:`\lambda_D > 0`.
      undesirable_weight: scalar :math:`\lambda_U > 0`. The paper keeps :math:`\lambda_D n_D / (\lambda_U n_U)` between
        1 and 3/2, n being how many there are.
      reduce_fn: what makes a scalar of the losses of the responses, `reduce_fn(losses, where=valid)`, such as
        `jnp.sum`; None leaves them as they are, `[...]`.
      where: `[...]` boolean, True for the responses that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `KtoMetrics` over all valid responses. Both are 0
      when there is none.

    Raises:
      ValueError: a number is an array, or concrete and out of its range; `reduce_fn` returns no scalar.
      TypeError: `desirable` or `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> labels = jnp.array([True, False])
      >>> loss, metrics = kto_loss(jnp.log(jnp.array([3.0, 3.0])), jnp.zeros(2), labels, beta=1.0, kl=0.0)
      >>> print(loss, metrics.num_desirable)  # 1 - 3/4 and 3/4
      0.5 1

    Source: Ethayarajh et al. (2024, arXiv 2402.01306). Also in TRL.
    """
    check_finite_positive("beta", beta)
    check_coefficient("kl", kl)
    check_finite_positive("desirable_weight", desirable_weight)
    check_finite_positive("undesirable_weight", undesirable_weight)
    check_reduce_fn(reduce_fn)
    log_likelihoods, reference = same_float(
        log_likelihoods=log_likelihoods, reference_log_likelihoods=reference_log_likelihoods
    )
    wanted = as_booleans("desirable", desirable, "desirable")
    check_same_shape(log_likelihoods=log_likelihoods, desirable=wanted)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    dtype = log_likelihoods.dtype
    ratios = reference_log_ratios(log_likelihoods, reference, mask)
    point = lax.stop_gradient(jnp.maximum(jnp.asarray(kl, dtype), 0))
    beta = jnp.asarray(beta, dtype)
    logits = beta * jnp.where(wanted, ratios - point, point - ratios)
    weights = jnp.where(wanted, jnp.asarray(desirable_weight, dtype), jnp.asarray(undesirable_weight, dtype))
    losses = jnp.where(mask, weights * jax.nn.sigmoid(-logits), 0)
    good, bad = mask & wanted, mask & ~wanted
    metrics = KtoMetrics(
        desirable_reward=mean_where(beta * ratios, good),
        undesirable_reward=mean_where(beta * ratios, bad),
        num_desirable=jnp.sum(good, dtype=jnp.int32),
        num_undesirable=jnp.sum(bad, dtype=jnp.int32),
    )
    return reduce_groups(losses, mask, reduce_fn), metrics

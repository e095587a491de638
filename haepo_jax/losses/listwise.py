"""The loss on ranked responses: the Plackett-Luce likelihood of a whole ranking, of which DPO is the case of two."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    as_mask,
    check_finite_positive,
    check_rank,
    mean_where,
    reference_log_ratios,
    same_float,
)
from haepo_jax.losses.preferences import preference_pairs
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups


class ListwiseMetrics(NamedTuple):
    """Terms of a listwise preference loss, for each group."""

    accuracy: jax.Array
    """`[...]` share of the pairs of different rank that the log-ratios order the same way."""
    rewards: jax.Array
    """`[..., K]` implicit rewards, beta times the log-ratio of policy to reference; 0 where masked."""
    num_choices: jax.Array
    """`[...]` int32, responses that are preferred to some other, each of which is one choice."""


def listwise_preference_loss(
    log_likelihoods: ArrayLike,
    reference_log_likelihoods: ArrayLike,
    returns: ArrayLike,
    *,
    beta: ArrayLike,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, ListwiseMetrics]:
    r"""Computes minus the log-likelihood of a ranking of K responses, under the implicit rewards of the policy.

    With :math:`s_i = \beta (L_i - L_i^{ref})` the ranking is drawn from the best down, each time one of those that are
    left, with the probability of a softmax:

    .. math:: \ell = -\sum_i \log \frac{e^{s_i}}{e^{s_i} + \sum_{j:\, R_j < R_i} e^{s_j}}

    averaged over the groups in which some response is preferred to another. Without ties that is the Plackett-Luce
    model, and of two responses DPO, to the last bit of the pair's loss. Responses of equal return are not compared:
    each is chosen among itself and those that are worse. A partial ranking is one with ties: where only the first n
    are ranked, give all others one lowest return, and the sum is the likelihood of the first n choices; a response of
    which nothing is known is masked. Time and memory grow as K squared.

    Args:
      log_likelihoods: `[..., K]` log-likelihoods :math:`L_i` of whole responses, in nats.
      reference_log_likelihoods: `[..., K]` those under the reference policy; a constant to the gradient.
      returns: `[..., K]` numbers whose order is the ranking, the greatest the best: rewards, or minus the ranks.
      beta: scalar :math:`\beta > 0`, per nat.
      reduce_fn: what makes a scalar of the losses of the groups, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`. A group without a choice has the loss 0 and is not `valid`.
      where: `[..., K]` boolean, True for the responses that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64 (`[...]` losses without `reduce_fn`), and
      `ListwiseMetrics` for each group.

    Raises:
      ValueError: `beta` is not a scalar, or concrete and not positive; the arrays are scalars; `reduce_fn` returns no
        scalar.
      TypeError: `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> log_likelihoods, returns = jnp.log(jnp.array([3.0, 1.0, 2.0])), jnp.array([3.0, 1.0, 2.0])
      >>> loss, metrics = listwise_preference_loss(log_likelihoods, jnp.zeros(3), returns, beta=1.0)
      >>> print(jnp.exp(-loss).round(4), metrics.accuracy)  # 3/6 times 2/3
      0.3333 1.0

    Source: Rafailov et al. (2023, arXiv 2305.18290), appendix A.3; ties: Zhu and Klabjan (2020), "Listwise learning to
    rank by exploring unique ratings". No other library that we know of has it for policies; rax's
    `unique_softmax_loss` has the same sum for scores.
    """
    check_finite_positive("beta", beta)
    check_reduce_fn(reduce_fn)
    log_likelihoods, reference, returns = same_float(
        log_likelihoods=log_likelihoods, reference_log_likelihoods=reference_log_likelihoods, returns=returns
    )
    check_rank("log_likelihoods", log_likelihoods)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    worse = preference_pairs(returns, where=mask)
    beta = jnp.asarray(beta, log_likelihoods.dtype)
    ratios = reference_log_ratios(log_likelihoods, reference, mask)
    margins = jnp.where(worse, ratios[..., :, None] - ratios[..., None, :], 0)
    chosen = jnp.any(worse, axis=-1)
    above = _lead_of_the_worse(margins, worse, beta)
    losses = jnp.sum(jnp.where(chosen, jax.nn.softplus(above), 0), axis=-1)
    num_choices = jnp.sum(chosen, axis=-1, dtype=jnp.int32)
    metrics = ListwiseMetrics(
        accuracy=mean_where((margins > 0).astype(margins.dtype), worse, axis=(-2, -1)),
        rewards=beta * ratios,
        num_choices=num_choices,
    )
    return reduce_groups(losses, num_choices > 0, reduce_fn), metrics


def _lead_of_the_worse(margins: jax.Array, worse: jax.Array, beta: jax.Array) -> jax.Array:
    """How far the worse ones together are above each, `[..., K]`: the pair's -beta m where there is one, -inf if none.

    The least margin is taken off before beta multiplies: a product and a difference that are rounded once, as a
    compiler may have them, would leave a rest of the size of the product's rounding for exp to blow up.
    """
    least = lax.stop_gradient(jnp.min(jnp.where(worse, margins, jnp.inf), axis=-1, keepdims=True, initial=jnp.inf))
    least = jnp.where(jnp.isfinite(least), least, 0)
    powers = jnp.where(worse, jnp.exp(-beta * jnp.where(worse, margins - least, 0)), 0)
    total = jnp.sum(powers, axis=-1)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) - beta * least[..., 0], -jnp.inf)

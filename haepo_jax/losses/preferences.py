"""Losses on pairs of which one is preferred, and the pairs that a group of returns gives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    as_float,
    as_mask,
    check_choice,
    check_finite_positive,
    check_rank,
    check_scalar,
    is_concrete,
    is_concrete_zero,
    mean_where,
    reference_log_ratios,
    same_float,
    unless_zero,
)
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups

PAIRS = ("all", "best_worst")
"""Which pairs of a group are compared: all of unequal return, or the best with the worst."""


class DpoMetrics(NamedTuple):
    """Terms of a loss on pairs, over all valid ones."""

    accuracy: jax.Array
    """Share of the pairs whose margin is positive. A tie, as all are while policy and reference agree, is not."""
    margin: jax.Array
    """Mean margin in nats, before beta."""
    chosen_reward: jax.Array
    """Mean implicit reward of the chosen, beta times the log-ratio of policy to reference."""
    rejected_reward: jax.Array
    """Mean implicit reward of the rejected."""
    num_pairs: jax.Array
    """int32, pairs that are not masked."""


def dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: ArrayLike,
    label_smoothing: ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, DpoMetrics]:
    r"""Computes the DPO loss: the preferred is to become likelier, against a reference policy.

    .. math::
        m = (L^+ - L^+_{ref}) - (L^- - L^-_{ref}), \qquad
        \ell = -(1 - s) \log \sigma(\beta m) - s \log \sigma(-\beta m)

    averaged over all valid pairs, whatever group they are of. This is the DPO of Rafailov et al. (2023), and not
    the Discovered Policy Optimisation that PureJaxRL, Rejax and Stoix call by the same three letters. A
    log-likelihood is that of a whole trajectory or of a whole completion: the loss serves control and language
    models alike.

    Args:
      chosen: `[...]` log-likelihoods :math:`L^+` of what is preferred, in nats, of any shape.
      rejected: `[...]` log-likelihoods :math:`L^-` of what it is preferred to.
      reference_chosen: `[...]` log-likelihoods of the chosen under the reference policy; a constant to the
        gradient.
      reference_rejected: `[...]` those of the rejected; a constant to the gradient.
      beta: scalar :math:`\beta > 0`, per nat; the larger, the nearer the policy stays to the reference.
      label_smoothing: scalar :math:`0 \le s < 1/2`, the share of labels taken to be the wrong way round.
      where: `[...]` boolean, True for the pairs that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `DpoMetrics` over all valid pairs. Both are 0
      when there is none.

    Raises:
      ValueError: `beta` or `label_smoothing` is not a scalar, or concrete and out of its range.
      TypeError: `where` is not boolean.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> chosen, rejected, reference = jnp.log(jnp.array([0.75])), jnp.log(jnp.array([0.25])), jnp.zeros(1)
      >>> loss, metrics = dpo_loss(chosen, rejected, reference, reference, beta=1.0)
      >>> print(jnp.exp(-loss).round(4), metrics.accuracy)
      0.75 1.0

    Source: Rafailov et al. (2023), "Direct preference optimization"; label smoothing: Mitchell (2023), "A note on
    DPO with noisy preferences".
    """
    check_finite_positive("beta", beta)
    check_scalar("label_smoothing", label_smoothing)
    if is_concrete(label_smoothing) and not 0 <= np.asarray(label_smoothing) < 0.5:
        raise ValueError(f"label_smoothing must be at least 0 and less than 0.5, got {label_smoothing}.")
    pairs = _compare(chosen, rejected, reference_chosen, reference_rejected, where)
    beta = jnp.asarray(beta, pairs.margins.dtype)
    # -log sigmoid(x) is softplus(-x), and -log sigmoid(-x) is that plus x.
    losses = jax.nn.softplus(-beta * pairs.margins)
    if not is_concrete_zero(label_smoothing):
        losses += jnp.asarray(label_smoothing, beta.dtype) * beta * unless_zero(label_smoothing, pairs.margins)
    return mean_where(losses, pairs.mask), _metrics(*pairs[:3], beta, pairs.mask)


def ipo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: ArrayLike,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, DpoMetrics]:
    r"""Computes the IPO loss: the margin of `dpo_loss` is drawn to a number, not to infinity.

    .. math:: \ell = \left(m - \frac{1}{2 \beta}\right)^2

    averaged over all valid pairs. Where labels never contradict one another DPO's margin grows without end, and IPO's
    stops at :math:`1 / (2 \beta)`. The square makes long completions count more; TRL, after its authors, gives it
    log-likelihoods divided by their lengths (`trajectory_scores(kind="mean")`).

    Args:
      chosen: `[...]` log-likelihoods of what is preferred, in nats, of any shape.
      rejected: `[...]` log-likelihoods of what it is preferred to.
      reference_chosen: `[...]` log-likelihoods of the chosen under the reference policy; a constant to the
        gradient.
      reference_rejected: `[...]` those of the rejected; a constant to the gradient.
      beta: scalar :math:`\beta > 0`, per nat (:math:`\tau` of the paper).
      reduce_fn: what makes a scalar of the losses of the pairs, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`.
      where: `[...]` boolean, True for the pairs that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `DpoMetrics` over all valid pairs. Both are 0
      when there is none.

    Raises:
      ValueError: `beta` is not a scalar, or concrete and not positive; `reduce_fn` returns no scalar.
      TypeError: `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> loss, metrics = ipo_loss(jnp.array([3.0]), jnp.zeros(1), jnp.zeros(1), jnp.zeros(1), beta=0.25)
      >>> print(loss, metrics.margin)
      1.0 3.0

    Source: Azar et al. (2024, arXiv 2310.12036), equation 17. Also in TRL, OpenRLHF and axolotl.
    """
    check_finite_positive("beta", beta)
    check_reduce_fn(reduce_fn)
    pairs = _compare(chosen, rejected, reference_chosen, reference_rejected, where)
    beta = jnp.asarray(beta, pairs.margins.dtype)
    losses = jnp.where(pairs.mask, jnp.square(pairs.margins - 1 / (2 * beta)), 0)
    return reduce_groups(losses, pairs.mask, reduce_fn), _metrics(*pairs[:3], beta, pairs.mask)


def simpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    chosen_lengths: ArrayLike,
    rejected_lengths: ArrayLike,
    *,
    beta: ArrayLike,
    margin: ArrayLike,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, DpoMetrics]:
    r"""Computes the SimPO loss: the preferred is to be likelier a step, by a margin, without a reference policy.

    .. math::
        m = \frac{L^+}{T^+} - \frac{L^-}{T^-}, \qquad \ell = -\log \sigma(\beta m - \gamma)

    averaged over all valid pairs.

    Args:
      chosen: `[...]` log-likelihoods :math:`L^+` of what is preferred, in nats, of any shape.
      rejected: `[...]` log-likelihoods :math:`L^-` of what it is preferred to.
      chosen_lengths: `[...]` valid steps :math:`T^+` of the chosen; 0 is read as 1. A constant to the gradient.
      rejected_lengths: `[...]` those of the rejected.
      beta: scalar :math:`\beta > 0`, per nat a step; 2 to 10 in the paper.
      margin: scalar :math:`\gamma \ge 0`, in units of :math:`\beta m`.
      reduce_fn: what makes a scalar of the losses of the pairs, as for `ipo_loss`.
      where: `[...]` boolean, True for the pairs that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `DpoMetrics` over all valid pairs, whose margin is m
      and whose rewards are :math:`\beta L / T`. Both are 0 when there is none.

    Raises:
      ValueError: `beta` or `margin` is not a scalar, or concrete and out of its range; `reduce_fn` returns no scalar.
      TypeError: `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> arrays = jnp.array([-2.0]), jnp.array([-2.0]), jnp.array([4]), jnp.array([2])
      >>> loss, metrics = simpo_loss(*arrays, beta=2.0, margin=1.0)
      >>> print(jnp.exp(-loss).round(4), metrics.margin)
      0.5 0.5

    Source: Meng et al. (2024, arXiv 2405.14734). TRL's CPO trainer has it, with the same gamma.
    """
    check_finite_positive("beta", beta)
    check_scalar("margin", margin)
    if is_concrete(margin) and not np.asarray(margin) >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}.")
    check_reduce_fn(reduce_fn)
    arrays = same_float(
        chosen=chosen, rejected=rejected, chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths
    )
    mask = as_mask(where, arrays[0], "chosen")
    chosen, rejected, chosen_lengths, rejected_lengths = (jnp.where(mask, array, 0) for array in arrays)
    beta, gamma = jnp.asarray(beta, chosen.dtype), jnp.asarray(margin, chosen.dtype)
    chosen_means = chosen / lax.stop_gradient(jnp.maximum(chosen_lengths, 1))
    rejected_means = rejected / lax.stop_gradient(jnp.maximum(rejected_lengths, 1))
    margins = chosen_means - rejected_means
    losses = jnp.where(mask, jax.nn.softplus(gamma - beta * margins), 0)
    return reduce_groups(losses, mask, reduce_fn), _metrics(chosen_means, rejected_means, margins, beta, mask)


def preference_pairs(returns: ArrayLike, *, pairs: str = "all", where: ArrayLike | None = None) -> jax.Array:
    """Pairs of trajectories of a group of which one is preferred, as its return is strictly greater.

    ============ ==========================================================================
    pairs        which
    ============ ==========================================================================
    `all`        every two trajectories of different returns
    `best_worst` the best and the worst alone; of several, the first. None if all are equal
    ============ ==========================================================================

    With `chosen = log_likelihoods[..., :, None]` and `rejected = log_likelihoods[..., None, :]`, both spread over
    `[..., M, M]`, the result is the `where` of `dpo_loss`.

    Args:
      returns: `[..., M]` returns.
      pairs: `all` or `best_worst`.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones are in no pair.

    Returns:
      `[..., M, M]` boolean, True at `[i, j]` where trajectory i is preferred to trajectory j.

    Raises:
      ValueError: an unknown `pairs`, or `returns` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(preference_pairs(jnp.array([1.0, 2.0, 1.0])).astype(int))
      [[0 0 0]
       [1 0 1]
       [0 0 0]]
      >>> print(preference_pairs(jnp.array([1.0, 2.0, 1.0]), pairs="best_worst").astype(int))
      [[0 0 0]
       [1 0 0]
       [0 0 0]]

    Source: the pairs of Rafailov et al. (2023) are labelled by people; here the return labels them.
    """
    check_choice("pairs", pairs, PAIRS)
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    preferred = (returns[..., :, None] > returns[..., None, :]) & mask[..., :, None] & mask[..., None, :]
    if pairs == "best_worst" and returns.shape[-1]:
        best = jnp.argmax(jnp.where(mask, returns, -jnp.inf), axis=-1, keepdims=True)
        worst = jnp.argmin(jnp.where(mask, returns, jnp.inf), axis=-1, keepdims=True)
        index = lax.broadcasted_iota(best.dtype, returns.shape, returns.ndim - 1)
        is_best, is_worst = index == best, index == worst
        preferred &= is_best[..., :, None] & is_worst[..., None, :]
    return preferred


class _Pairs(NamedTuple):
    chosen_ratios: jax.Array
    rejected_ratios: jax.Array
    margins: jax.Array
    """By how much more the policy than the reference prefers the chosen; 0 where masked, as the ratios are."""
    mask: jax.Array


def _compare(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    where: ArrayLike | None,
) -> _Pairs:
    chosen, rejected, reference_chosen, reference_rejected = same_float(
        chosen=chosen, rejected=rejected, reference_chosen=reference_chosen, reference_rejected=reference_rejected
    )
    mask = as_mask(where, chosen, "chosen")
    chosen_ratios = reference_log_ratios(chosen, reference_chosen, mask)
    rejected_ratios = reference_log_ratios(rejected, reference_rejected, mask)
    return _Pairs(chosen_ratios, rejected_ratios, chosen_ratios - rejected_ratios, mask)


def _metrics(
    chosen_rewards: jax.Array, rejected_rewards: jax.Array, margins: jax.Array, beta: jax.Array, mask: jax.Array
) -> DpoMetrics:
    """Means over the pairs; the rewards are those before beta."""
    return DpoMetrics(
        accuracy=mean_where((margins > 0).astype(margins.dtype), mask),
        margin=mean_where(margins, mask),
        chosen_reward=mean_where(beta * chosen_rewards, mask),
        rejected_reward=mean_where(beta * rejected_rewards, mask),
        num_pairs=jnp.sum(mask, dtype=jnp.int32),
    )

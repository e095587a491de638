"""Which steps and groups of a batch take part, and how much: importance weights of steps, and masks of both."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_max,
    as_flags,
    as_float,
    as_mask,
    check_choice,
    check_positive,
    check_rank,
    is_concrete,
    mean_where,
)
from haepo_jax.losses._ratio_terms import LEVELS, exp_or_tangent

IMPORTANCE_MODES = ("truncate", "mask")
"""What becomes of an importance weight beyond its bound: it is cut to the bound, or made 0."""


def importance_weights(
    log_ratio: ArrayLike,
    *,
    level: str,
    mode: str = "truncate",
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Computes the weights of steps that were sampled by one program and are learned from by another.

    The program that samples rounds otherwise than the one that trains, so that its probabilities of the same
    policy differ. With :math:`d_{kt} = \log \pi_{trainer} - \log \pi_{sampler}`, both of the policy that sampled,

    ================ ========================================= ======================================================
    level            weight :math:`\rho_{kt}`                  which
    ================ ========================================= ======================================================
    `token`          :math:`\exp d_{kt}`                       each step's own: biased, of little variance
    `sequence`       :math:`\exp \sum_t d_{kt}`                the whole trajectory's: unbiased, of much variance
    `geometric_mean` :math:`\exp(mean_t\, d_{kt})`             of a trajectory by how far off its steps are on
                                                               average, whatever its length
    ================ ========================================= ======================================================

    `truncate` holds a weight to [low, high], `mask` makes it 0 outside.

    Args:
      log_ratio: `[..., T]` log-ratios :math:`d_{kt}` of trainer to sampler, in nats.
      level: `token`, `sequence` or `geometric_mean`.
      mode: `truncate` or `mask`.
      low: scalar lower bound, positive, or None for none.
      high: scalar upper bound, positive, or None for none.
      where: `[..., T]` boolean, True for the steps that count.

    Returns:
      `[..., T]` weights, float32 or float64, a constant to the gradient; those of a trajectory are given to each of
      its steps. 0 where masked.

    Raises:
      ValueError: an unknown `level` or `mode`; a bound is an array, or concrete and not positive; both are concrete
        and `low` is above `high`; `log_ratio` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `log_ratio`.

    Example:
      >>> import jax.numpy as jnp
      >>> log_ratio = jnp.log(jnp.array([[2.0, 0.5], [4.0, 1.0]]))
      >>> print(importance_weights(log_ratio, level="token", high=2.0))
      [[2.  0.5]
       [2.  1. ]]
      >>> print(importance_weights(log_ratio, level="sequence", mode="mask", high=3.0))
      [[1. 1.]
       [0. 0.]]

    Source: truncated importance sampling (TIS), Yao et al. (2025), "Your efficient RL framework secretly brings you
    off-policy RL training"; masks (IcePop, MIS): Ling team (2025, arXiv 2510.18855). TRL, verl, OpenRLHF have them:
    TRL's default is `sequence`, `mask`, high=3.
    """
    check_choice("level", level, LEVELS)
    check_choice("mode", mode, IMPORTANCE_MODES)
    for name, bound in (("low", low), ("high", high)):
        if bound is not None:
            check_positive(name, bound)
    if low is not None and high is not None and is_concrete(low, high) and np.asarray(low) > np.asarray(high):
        raise ValueError(f"low must not be above high, got {low} and {high}.")
    log_ratio = as_float("log_ratio", log_ratio)
    check_rank("log_ratio", log_ratio)
    mask = as_mask(where, log_ratio, "log_ratio")
    steps = jnp.where(mask, log_ratio, 0)
    if level == "sequence":
        steps = jnp.broadcast_to(jnp.sum(steps, axis=-1, keepdims=True), steps.shape)
    elif level == "geometric_mean":
        steps = jnp.broadcast_to(mean_where(steps, mask, axis=-1)[..., None], steps.shape)
    weights = exp_or_tangent(steps)
    least = jnp.asarray(-jnp.inf if low is None else low, weights.dtype)
    most = jnp.asarray(jnp.inf if high is None else high, weights.dtype)
    if mode == "truncate":
        weights = jnp.clip(weights, least, most)
    else:
        weights = jnp.where((weights >= least) & (weights <= most), weights, 0)
    return lax.stop_gradient(jnp.where(mask, weights, 0))


def varied_groups(returns: ArrayLike, *, where: ArrayLike | None = None, axis_name: AxisName = None) -> jax.Array:
    """Marks the groups whose returns differ, those that a loss in the deviation from the mean can learn from.

    A group of equal returns has advantages of 0 and adds nothing to the sum of a loss, but counts in its mean. DAPO
    leaves it out: `where & varied_groups(returns, where=where)[..., None]`, and samples others in its place.

    Args:
      returns: `[..., M]` returns.
      where: `[..., M]` boolean, True for the trajectories that count.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[...]` boolean: True where two valid trajectories have different returns.

    Raises:
      ValueError: `returns` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(varied_groups(jnp.array([[1.0, 0.0], [1.0, 1.0]])))
      [ True False]

    Source: the dynamic sampling of DAPO (arXiv 2503.14476), section 3.2. verl's `filter_groups` is the same test.
    """
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    most = all_max(jnp.where(mask, returns, -jnp.inf), axis_name)
    least = -all_max(jnp.where(mask, -returns, -jnp.inf), axis_name)
    return most > least


def finished_mask(done: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Marks the steps of the trajectories that came to their own end, and so none of those cut at the limit.

    The return of a response that was cut says little of its text: DAPO leaves such a response out of the loss. Its
    return may still count in the group's mean.

    Args:
      done: `[..., T]` boolean, True at a step after which the trajectory ended by itself (a token that ends a text).
      where: `[..., T]` boolean, True for the steps that count.

    Returns:
      `[..., T]` boolean: True for the valid steps of trajectories with a valid step that is `done`.

    Raises:
      ValueError: `done` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `done`.

    Example:
      >>> import jax.numpy as jnp
      >>> done = jnp.array([[False, True, False], [False, False, False]])
      >>> print(finished_mask(done, where=jnp.array([[True, True, False], [True, True, True]])))
      [[ True  True False]
       [False False False]]

    Source: the overlong filtering of DAPO (arXiv 2503.14476), section 3.4. TRL's `mask_truncated_completions`.
    """
    flags = as_flags("done", done)
    check_rank("done", flags)
    mask = as_mask(where, flags, "done")
    return mask & jnp.any(flags & mask, axis=-1, keepdims=True)

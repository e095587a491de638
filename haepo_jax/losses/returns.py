"""Returns of trajectories, and what is made of them before they enter a loss."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_max,
    all_sum,
    as_flags,
    as_float,
    as_mask,
    check_choice,
    check_coefficient,
    check_rank,
    deviations,
    is_concrete,
)

NORMALIZATIONS = ("zscore", "sum", "none")
"""How the returns of a group are normalised, see `normalize_returns`."""
_EPSILON = 1e-8


def first_episode_mask(done: ArrayLike) -> jax.Array:
    """Marks the steps of the first episode, the one that ends it included.

    Args:
      done: `[..., T]` boolean, True at a step after which an episode ended (terminated or truncated).

    Returns:
      `[..., T]` boolean: True up to and including the first True of `done`, everywhere if there is none.

    Raises:
      ValueError: `done` is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> print(first_episode_mask(jnp.array([False, True, False, True])))
      [ True  True False False]
    """
    done = as_flags("done", done)
    check_rank("done", done)
    ends_before = jnp.cumsum(done, axis=-1) - done.astype(jnp.int32)
    return ends_before == 0


def trajectory_returns(rewards: ArrayLike, *, discount: ArrayLike = 1.0, where: ArrayLike | None = None) -> jax.Array:
    r"""Computes the return of each trajectory, :math:`R_k = \sum_t \gamma^t r_t`.

    Args:
      rewards: `[..., T]` reward of each step, t counted from the start of the axis.
      discount: scalar :math:`\gamma`.
      where: `[..., T]` boolean, True for the steps that count.

    Returns:
      `[...]` returns, float32 or float64.

    Raises:
      ValueError: `rewards` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `rewards`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(trajectory_returns(jnp.array([[1.0, 1.0, 1.0]]), discount=0.5))
      [1.75]
    """
    rewards = as_float("rewards", rewards)
    check_rank("rewards", rewards)
    check_coefficient("discount", discount)
    rewards = jnp.where(as_mask(where, rewards, "rewards"), rewards, 0)
    steps = jnp.arange(rewards.shape[-1], dtype=rewards.dtype)
    # The first power apart: that of a discount of 0 has no slope.
    discounts = jnp.where(steps == 0, 1, jnp.asarray(discount, rewards.dtype) ** jnp.maximum(steps, 1))
    return jnp.sum(rewards * jnp.broadcast_to(discounts, rewards.shape), axis=-1)


def normalize_returns(
    returns: ArrayLike,
    *,
    method: str = "zscore",
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Returns on a common scale within each group.

    ========= =======================================================================
    method    normalised return
    ========= =======================================================================
    `zscore`  :math:`(R_k - mean) / (std + 10^{-8})`, std the population's
    `sum`     :math:`R_k / \sum_j R_j`
    `none`    :math:`R_k`
    ========= =======================================================================

    `sum` is only meant for returns whose sum is positive: a negative sum would turn the best trajectory
    into the worst, and a zero sum divides by zero. When the numbers are concrete, such returns are
    refused. When they are traced (under `jit`, `vmap` and so on), where nothing can be raised, the
    normalised returns of that group are all 0, so that it gives no direction rather than the opposite
    one; `haepo_loss` flags it in `HaepoMetrics.returns_sum_not_positive`.

    Args:
      returns: `[..., M]` returns.
      method: `zscore`, `sum` or `none`.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones get exactly 0.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[..., M]` normalised returns, float32 or float64. Equal returns give exactly 0 under `zscore`.

    Raises:
      ValueError: an unknown `method`, scalar `returns`, or `sum` of concrete returns that do not sum to a
        positive number in every group that has a valid trajectory.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(normalize_returns(jnp.array([1.0, 2.0, 3.0, 4.0]), method="sum"))
      [0.1 0.2 0.3 0.4]
      >>> print(normalize_returns(jnp.array([1.0, 3.0])))
      [-1.  1.]

    Source: HAEPO (arXiv 2508.18884), section 3: `sum` for short and `zscore` for long horizons.
    """
    return normalized("method", method, returns, where, axis_name)


def normalized(name: str, method: str, returns: ArrayLike, where: ArrayLike | None, axis_name: AxisName) -> jax.Array:
    """Computes `normalize_returns` for a caller whose argument for the method has another name."""
    check_choice(name, method, NORMALIZATIONS)
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    returns = jnp.where(mask, returns, 0)
    if method == "none":
        return returns
    if method == "sum":
        total = all_sum(returns, axis_name)
        refused = _sum_not_positive(total, mask, axis_name)
        if is_concrete(refused) and jnp.any(refused):
            raise ValueError(
                f"{name} 'sum' needs returns with a positive sum in every group (a negative one would turn the "
                f"ranking upside down), got the sums {total}; use 'zscore', or shift the returns."
            )
        total = jnp.where(refused | (total == 0), 1, total)[..., None]
        return jnp.where(refused[..., None], 0, returns / total)
    unit = _power_of_two(all_max(jnp.abs(returns), axis_name))[..., None]
    centred, count = deviations(returns / unit, mask, axis_name)
    variance = all_sum(jnp.square(centred), axis_name)[..., None] / count
    # sqrt has an infinite slope at 0, which a `where` after it would not keep out of the gradient.
    std = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), variance)
    spread = std + _EPSILON / unit
    return centred / jnp.where(spread == 0, 1, spread)


def _power_of_two(largest: jax.Array) -> jax.Array:
    """Computes the largest power of two that is not above each number, or 1 where that is more.

    What is divided by it is not rounded: squares and sums of large numbers no longer overflow, and others stay the
    same to the last bit. Nor is it so large that compiled programs take its reciprocal for 0.
    """
    precision = jnp.finfo(largest.dtype)
    bits = lax.bitcast_convert_type(largest, jnp.dtype(f"int{precision.bits}"))
    power = lax.bitcast_convert_type(bits >> precision.nmant << precision.nmant, largest.dtype)
    return jnp.where(jnp.isfinite(power), jnp.clip(power, 1, 1 / precision.tiny), 1)


def returns_sum_not_positive(
    returns: ArrayLike, *, where: ArrayLike | None = None, axis_name: AxisName = None
) -> jax.Array:
    """Marks the groups whose returns `sum` normalisation cannot rank.

    Args:
      returns: `[..., M]` returns.
      where: `[..., M]` boolean, True for the trajectories that count.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[...]` boolean: True for a group with a valid trajectory whose returns sum to 0 or less.

    Example:
      >>> import jax.numpy as jnp
      >>> print(returns_sum_not_positive(jnp.array([[1.0, 2.0], [1.0, -2.0]])))
      [False  True]
    """
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    return _sum_not_positive(all_sum(jnp.where(mask, returns, 0), axis_name), mask, axis_name)


def _sum_not_positive(total: jax.Array, mask: jax.Array, axis_name: AxisName) -> jax.Array:
    return (total <= 0) & (all_sum(mask.astype(jnp.int32), axis_name) > 0)

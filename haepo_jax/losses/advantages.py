"""Advantages: how much better a trajectory, or a step, did than expected. All are constants to the gradient."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_sum,
    as_flags,
    as_float,
    as_mask,
    check_coefficient,
    check_flag,
    check_rank,
    check_same_shape,
    deviations,
    is_concrete,
    same_float,
    start_of_loop,
)
from haepo_jax.losses.returns import normalize_returns


def group_relative_advantages(
    returns: ArrayLike,
    *,
    scale: bool = True,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the advantage of each trajectory over its group, the one that GRPO gives to all of its steps.

    .. math:: A_k = \frac{R_k - mean(R)}{std(R) + 10^{-8}}, \qquad\text{or } R_k - mean(R) \text{ without scale}

    The standard deviation is the population's, so that this equals `normalize_returns(returns)`. DeepSeekMath
    divides by std(R) without saying which; TRL takes the sample's (over M - 1) and adds 1e-4, which makes its
    advantages smaller by the factor :math:`\sqrt{(M - 1) / M}`, and undefined for a single trajectory. Dr. GRPO
    leaves the division out, as it gives groups of nearly equal returns the weight of all others.

    Args:
      returns: `[..., M]` returns :math:`R_k`.
      scale: divide by the standard deviation.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones get exactly 0.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[..., M]` advantages, float32 or float64, a constant to the gradient. Equal returns, and a lone
      trajectory, give exactly 0.

    Raises:
      ValueError: `returns` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(group_relative_advantages(jnp.array([1.0, 5.0])))
      [-1.  1.]
      >>> print(group_relative_advantages(jnp.array([1.0, 5.0]), scale=False))
      [-2.  2.]

    Source: DeepSeekMath (arXiv 2402.03300), section 4.1; Dr. GRPO (arXiv 2503.20783), section 3.
    """
    check_flag("scale", scale)
    if scale:
        return lax.stop_gradient(normalize_returns(returns, where=where, axis_name=axis_name))
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    return lax.stop_gradient(deviations(returns, as_mask(where, returns, "returns"), axis_name)[0])


def leave_one_out_advantages(returns: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    r"""Computes each trajectory's advantage over the mean of the others, a baseline free of its own return.

    .. math:: A_k = R_k - \frac{1}{M - 1} \sum_{j \ne k} R_j

    Args:
      returns: `[..., M]` returns :math:`R_k`.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones get exactly 0.

    Returns:
      `[..., M]` advantages in the units of the returns, float32 or float64, a constant to the gradient. Equal
      returns give exactly 0, as does a valid trajectory that has no other to compare with.

    Raises:
      ValueError: `returns` is a scalar.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(leave_one_out_advantages(jnp.array([1.0, 2.0, 6.0])))
      [-3.  -1.5  4.5]

    Source: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024,
    arXiv 2402.14740).
    """
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    centred, count = deviations(returns, as_mask(where, returns, "returns"), axis_name=None)
    # R_k less the mean of the others is the deviation from the mean of all, times M / (M - 1).
    return lax.stop_gradient(centred * (count / jnp.maximum(count - 1, 1)))


def reinforce_plus_plus_advantages(
    returns: ArrayLike,
    *,
    baseline: bool = False,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the advantages of REINFORCE++: returns, or their deviations within the group, whitened over the batch.

    .. math:: A_k = \frac{x_k - mean(x)}{std(x) + 10^{-8}}, \qquad x_k = R_k \text{, or } R_k - mean_{group}(R)

    mean and std (the population's) being those of all trajectories of all groups. Against
    `group_relative_advantages` a group of nearly equal returns stays small. verl and OpenRLHF whiten over steps, so
    that a trajectory counts in mean and std by its length; the paper's divergence from a reference is a penalty on the
    returns, which whoever wants it takes off them before.

    Args:
      returns: `[..., M]` returns :math:`R_k`; all leading axes are one batch.
      baseline: take the mean of the group off first (`REINFORCE++-baseline`), for several trajectories a prompt.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones get exactly 0.
      axis_name: name of the mapped axis over which the batch is spread, with whole groups on each device.

    Returns:
      `[..., M]` advantages, float32 or float64, a constant to the gradient. Equal returns give exactly 0.

    Raises:
      ValueError: `returns` is a scalar.
      TypeError: `where` is not boolean, or `baseline` is neither True nor False.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> returns = jnp.array([[1.0, 1.0], [5.0, 5.0], [2.0, 4.0]])
      >>> print(reinforce_plus_plus_advantages(returns[:2]))
      [[-1. -1.]
       [ 1.  1.]]
      >>> print(reinforce_plus_plus_advantages(returns[2:], baseline=True))
      [[-1.  1.]]

    Source: Hu et al. (2025, arXiv 2501.03262). Also in verl and OpenRLHF.
    """
    check_flag("baseline", baseline)
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    values = deviations(returns, mask, axis_name=None)[0] if baseline else returns
    whitened = normalize_returns(values.reshape(-1), where=mask.reshape(-1), axis_name=axis_name)
    return lax.stop_gradient(whitened.reshape(returns.shape))


def maxrl_advantages(returns: ArrayLike, *, where: ArrayLike | None = None, axis_name: AxisName = None) -> jax.Array:
    r"""Computes the advantages of MaxRL, under which REINFORCE raises the likelihood of success, not its probability.

    .. math:: A_k = \frac{R_k - mean(R)}{mean(R)}

    Returns are 0 or 1, or at least not negative. The group's gradient is then the mean score of its successes, an
    estimate of the gradient of :math:`\log P(success)` where REINFORCE estimates that of :math:`P(success)`: a prompt
    with one success in M counts up to M times as much as under `group_relative_advantages(scale=False)`.

    Args:
      returns: `[..., M]` returns :math:`R_k`, not negative.
      where: `[..., M]` boolean, True for the trajectories that count. Masked ones get exactly 0.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[..., M]` advantages, float32 or float64, a constant to the gradient. 0 for a group whose mean is 0, and for
      one whose mean is negative, where it is traced and cannot be refused.

    Raises:
      ValueError: `returns` is a scalar, or concrete with a negative number.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `returns`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(maxrl_advantages(jnp.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])))
      [[ 3. -1. -1. -1.]
       [ 1. -1.  1. -1.]]

    Source: Tajwar et al. (2026, arXiv 2602.02710).
    """
    returns = as_float("returns", returns)
    check_rank("returns", returns)
    mask = as_mask(where, returns, "returns")
    returns = jnp.where(mask, returns, 0)
    if is_concrete(returns) and jnp.any(returns < 0):
        raise ValueError(f"returns must not be negative, as they are divided by their mean, got {returns.min()}.")
    centred, count = deviations(returns, mask, axis_name)
    mean = all_sum(returns, axis_name)[..., None] / count
    return lax.stop_gradient(jnp.where(mean > 0, centred / jnp.where(mean > 0, mean, 1), 0))


def generalized_advantages(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    *,
    terminated: ArrayLike,
    done: ArrayLike,
    discount: ArrayLike,
    gae_lambda: ArrayLike,
) -> jax.Array:
    r"""Computes generalised advantage estimates of the steps of a segment, in which episodes may end and others begin.

    .. math::
        \delta_t = r_t + \gamma (1 - terminated_t) V(s'_t) - V(s_t), \qquad
        A_t = \delta_t + \gamma \lambda (1 - done_t) A_{t+1}

    with A = 0 after the last step. An episode that ends by itself is worth nothing afterwards; one that is cut at
    a time limit continues in principle, and counts the value of the observation it was cut at. Neither takes
    anything from the episode that follows in the segment. The value target of a step is its advantage plus
    its value.

    Args:
      rewards: `[..., T]` reward :math:`r_t` of each step.
      values: `[..., T]` value :math:`V(s_t)` of the observation acted upon, in the units of the return.
      next_values: `[..., T]` value :math:`V(s'_t)` of the observation that the step led to: where the episode
        ended, its final one, not the first of the next episode. Ignored where terminated.
      terminated: `[..., T]` boolean, True where the task itself ended the episode.
      done: `[..., T]` boolean, True where the episode ended, be it terminated or cut. A terminated step counts
        as done whatever this says.
      discount: scalar :math:`\gamma`.
      gae_lambda: scalar :math:`\lambda`: 0 gives one-step temporal differences, 1 whole returns less the value.

    Returns:
      `[..., T]` advantages, float32 or float64, a constant to the gradient.

    Raises:
      ValueError: `rewards` is a scalar, or `discount` or `gae_lambda` is not.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> rewards, values, ended = jnp.ones(3), jnp.zeros(3), jnp.array([False, True, False])
      >>> print(generalized_advantages(
      ...     rewards, values, values, terminated=ended, done=ended, discount=0.5, gae_lambda=1.0
      ... ))
      [1.5 1.  1. ]

    Source: Schulman et al. (2016), "High-dimensional continuous control using generalized advantage estimation";
    Pardo et al. (2018), "Time limits in reinforcement learning", for the episodes that are cut.
    """
    rewards, values, next_values = same_float(rewards=rewards, values=values, next_values=next_values)
    terminated, done = as_flags("terminated", terminated), as_flags("done", done)
    check_same_shape(rewards=rewards, terminated=terminated, done=done)
    check_rank("rewards", rewards)
    check_coefficient("discount", discount)
    check_coefficient("gae_lambda", gae_lambda)
    discount, gae_lambda = jnp.asarray(discount, rewards.dtype), jnp.asarray(gae_lambda, rewards.dtype)
    deltas = rewards + discount * jnp.where(terminated, 0, next_values) - values
    goes_on = ~(terminated | done)

    def step(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, goes_on = now
        # Not a product with 0 or 1: a NaN in the next episode stays there.
        advantage = delta + jnp.where(goes_on, discount * gae_lambda * later, 0)
        return advantage, advantage

    time_first = jnp.moveaxis(deltas, -1, 0), jnp.moveaxis(goes_on, -1, 0)
    after_the_last = start_of_loop(0, jnp.sum(deltas + jnp.where(goes_on, gae_lambda, 0), axis=-1))
    _, advantages = lax.scan(step, after_the_last, time_first, reverse=True)
    return lax.stop_gradient(jnp.moveaxis(advantages, 0, -1))

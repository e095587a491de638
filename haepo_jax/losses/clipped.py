"""Losses on single steps, in which the ratio of policy to behaviour policy is clipped: PPO's two, and GRPO's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import as_mask, check_positive, mean_where, same_float
from haepo_jax.losses._ratio_terms import (
    PolicyRatioMetrics,
    RatioSettings,
    clipped,
    exp_less_tangent,
    masked_log_ratio,
    ratio_terms,
)

GrpoMetrics = PolicyRatioMetrics
"""Those of `policy_ratio_loss`, of which GRPO is one case."""


class ClippedSurrogateMetrics(NamedTuple):
    """Terms of a clipped surrogate loss, over all valid elements."""

    clip_fraction: jax.Array
    """Share of the elements that the clip holds, and that so get no gradient."""
    approx_kl: jax.Array
    """Estimate of the divergence of the policy from the behaviour policy, KL(behaviour, policy), in nats: the mean
    of `ratio - 1 - log ratio`, which is nowhere negative."""
    mean_ratio: jax.Array
    """Mean ratio; 1 in expectation, so that a value far off says the ratios are too spread to be averaged."""
    max_ratio: jax.Array
    """Largest ratio."""
    num_valid: jax.Array
    """int32, elements that are not masked."""


class ClippedValueMetrics(NamedTuple):
    """Terms of a clipped value loss, over all valid elements."""

    clip_fraction: jax.Array
    """Share of the elements that the clip holds, and that so get no gradient."""
    num_valid: jax.Array
    """int32, elements that are not masked."""


def clipped_surrogate_loss(
    log_probs: ArrayLike,
    behaviour_log_probs: ArrayLike,
    advantages: ArrayLike,
    *,
    clip_epsilon: ArrayLike,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, ClippedSurrogateMetrics]:
    r"""PPO's clipped surrogate: no gain from moving a ratio further than epsilon in the direction of its advantage.

    .. math::
        r = \exp(\log \pi_\theta - \log \pi_\beta), \qquad
        \ell = -\min\left(r A, \mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon) A\right)

    averaged over all valid elements. On the edge of the interval, where the minimum has a kink, the gradient is
    that of the inside.

    The clip sets no limit to a large ratio of a negative advantage, on purpose: that gradient brings the ratio
    back. So that it stays finite, the exponential continues as its tangent above a log-ratio of 20; the loss then
    grows linearly, its gradient keeps the size it has at 20, and a clip of the gradient's norm can deal with it.

    Args:
      log_probs: `[...]` log-probabilities of the actions taken, in nats, of any shape.
      behaviour_log_probs: `[...]` those under the policy that sampled; a constant to the gradient.
      advantages: `[...]` advantages :math:`A`; a constant to the gradient.
      clip_epsilon: scalar :math:`\epsilon > 0`.
      where: `[...]` boolean, True for the elements that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `ClippedSurrogateMetrics` over all valid
      elements. Both are 0 when there is none.

    Raises:
      ValueError: `clip_epsilon` is not a scalar, or concrete and not positive.
      TypeError: `where` is not boolean.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs, behaviour_log_probs = jnp.log(jnp.array([0.75, 0.25])), jnp.log(jnp.array([0.5, 0.5]))
      >>> loss, metrics = clipped_surrogate_loss(
      ...     log_probs, behaviour_log_probs, jnp.array([1.0, 1.0]), clip_epsilon=0.25
      ... )
      >>> print(loss, metrics.clip_fraction)  # ratios 1.5, held at 1.25, and 0.5
      -0.875 0.5

    Source: Schulman et al. (2017), "Proximal policy optimization algorithms" (arXiv 1707.06347); the estimate of
    the divergence: Schulman (2020), "Approximating KL divergence", http://joschu.net/blog/kl-approx.html.
    """
    log_probs, behaviour, advantages = same_float(
        log_probs=log_probs, behaviour_log_probs=behaviour_log_probs, advantages=advantages
    )
    mask = as_mask(where, log_probs, "log_probs")
    check_positive("clip_epsilon", clip_epsilon)
    log_ratio = masked_log_ratio(log_probs, behaviour, mask)
    advantages = lax.stop_gradient(jnp.where(mask, advantages, 0))
    epsilon = jnp.asarray(clip_epsilon, log_ratio.dtype)
    steps = clipped(log_ratio, advantages, epsilon, epsilon)
    metrics = ClippedSurrogateMetrics(
        clip_fraction=mean_where(steps.held.astype(steps.ratio.dtype), mask),
        approx_kl=mean_where(exp_less_tangent(log_ratio), mask),
        mean_ratio=mean_where(steps.ratio, mask),
        max_ratio=jnp.max(jnp.where(mask, steps.ratio, 0), initial=0),
        num_valid=jnp.sum(mask, dtype=jnp.int32),
    )
    return mean_where(steps.loss, mask), metrics


def approximate_kl(
    log_probs: ArrayLike, behaviour_log_probs: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Estimates the divergence of the policy from the one that sampled, KL(behaviour, policy), from the samples.

    The mean of :math:`r - 1 - \log r` over all valid elements, r being the probability ratio: nowhere negative, and in
    expectation the divergence.

    Args:
      log_probs: `[...]` log-probabilities of the actions taken, in nats, of any shape.
      behaviour_log_probs: `[...]` those under the policy that sampled.
      where: `[...]` boolean, True for the elements that count.

    Returns:
      The scalar estimate in nats, float32 or float64, a constant to the gradient; 0 where no element counts.

    Raises:
      TypeError: `where` is not boolean, or an array holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{approximate_kl(jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array([0.25, 0.25]))):.4f}")
      0.1534

    Source: the estimator k3 of Schulman (2020), "Approximating KL divergence".
    """
    log_probs, behaviour = same_float(log_probs=log_probs, behaviour_log_probs=behaviour_log_probs)
    mask = as_mask(where, log_probs, "log_probs")
    ratios = jnp.where(mask, log_probs, 0) - jnp.where(mask, behaviour, 0)
    return lax.stop_gradient(mean_where(exp_less_tangent(ratios), mask))


def clipped_value_loss(
    values: ArrayLike,
    behaviour_values: ArrayLike,
    targets: ArrayLike,
    *,
    clip_epsilon: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, ClippedValueMetrics]:
    r"""Computes half the squared error of values, with no gain from moves beyond epsilon from where they were.

    .. math::
        \ell = \frac{1}{2} \max\left((V - G)^2, (V_\epsilon - G)^2\right), \qquad
        V_\epsilon = V_\beta + \mathrm{clip}(V - V_\beta, -\epsilon, \epsilon)

    averaged over all valid elements; without `clip_epsilon`, half the mean squared error.

    Args:
      values: `[...]` values :math:`V`, in the units of the return, of any shape.
      behaviour_values: `[...]` values :math:`V_\beta` from before the update; a constant to the gradient. Unused
        without `clip_epsilon`.
      targets: `[...]` returns :math:`G` to be predicted; a constant to the gradient.
      clip_epsilon: scalar :math:`\epsilon > 0` in the units of the return, or None for no clip.
      where: `[...]` boolean, True for the elements that count.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `ClippedValueMetrics` over all valid elements.
      Both are 0 when there is none.

    Raises:
      ValueError: `clip_epsilon` is not a scalar, or concrete and not positive.
      TypeError: `where` is not boolean.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> arrays = jnp.array([3.0]), jnp.array([0.0]), jnp.array([4.0])
      >>> print(clipped_value_loss(*arrays)[0], clipped_value_loss(*arrays, clip_epsilon=1.0)[0])
      0.5 4.5

    Source: the code of Schulman et al. (2017, arXiv 1707.06347); see Engstrom et al. (2020), "Implementation
    matters in deep policy gradients".
    """
    values, behaviour, targets = same_float(values=values, behaviour_values=behaviour_values, targets=targets)
    mask = as_mask(where, values, "values")
    # Masked before the square, whose slope in a masked infinity would be NaN.
    values, behaviour, targets = (jnp.where(mask, array, 0) for array in (values, behaviour, targets))
    behaviour, errors = lax.stop_gradient(behaviour), values - lax.stop_gradient(targets)
    held = jnp.zeros(values.shape, bool)
    if clip_epsilon is not None:
        check_positive("clip_epsilon", clip_epsilon)
        epsilon = jnp.asarray(clip_epsilon, values.dtype)
        moved = values - behaviour
        clipped_errors = behaviour + jnp.where(moved > 0, epsilon, -epsilon) - lax.stop_gradient(targets)
        held = (jnp.abs(moved) > epsilon) & (jnp.abs(clipped_errors) > jnp.abs(errors))
        errors = jnp.where(held, clipped_errors, errors)
    metrics = ClippedValueMetrics(mean_where(held.astype(values.dtype), mask), jnp.sum(mask, dtype=jnp.int32))
    return mean_where(0.5 * jnp.square(errors), mask), metrics


def grpo_loss(
    log_probs: ArrayLike,
    behaviour_log_probs: ArrayLike,
    advantages: ArrayLike,
    reference_log_probs: ArrayLike | None = None,
    *,
    clip_epsilon: ArrayLike,
    kl_coef: ArrayLike,
    where: ArrayLike | None = None,
    aggregation: str = "sequence_mean",
    trajectory_of_step: ArrayLike | None = None,
    max_steps: int | None = None,
) -> tuple[jax.Array, GrpoMetrics]:
    r"""Computes the GRPO loss: PPO's surrogate on every step, with its trajectory's advantage, and a KL penalty.

    .. math::
        \ell_{kt} = -\min\left(r_{kt} A_k, \mathrm{clip}(r_{kt}, 1 - \epsilon, 1 + \epsilon) A_k\right)
        + \lambda \left(e^{d_{kt}} - d_{kt} - 1\right), \qquad
        d_{kt} = \log \pi_{ref} - \log \pi_\theta

    with the ratios :math:`r_{kt}` of `clipped_surrogate_loss`, aggregated over the valid steps of a group and then
    averaged over the groups that have one. With n_k the valid steps of trajectory k:

    =============== ======================================= ====================================================
    aggregation     loss of a group                         what it does
    =============== ======================================= ====================================================
    `sequence_mean` :math:`mean_k \sum_t \ell_{kt} / n_k`   DeepSeekMath: a trajectory counts once, so the steps
                                                            of a long one count less
    `token_mean`    :math:`\sum \ell_{kt} / \sum_k n_k`     DAPO: every step of the group counts the same
    `constant`      :math:`\sum \ell_{kt} / (M T)`          Dr. GRPO: as `token_mean`, but a group of long
                                                            trajectories counts more
    =============== ======================================= ====================================================

    M being the trajectories that have a valid step, and T the length of the time axis. Exponentials continue as
    their tangents above 20, as in `clipped_surrogate_loss`.

    Trajectories may be packed: M rows then hold N of them one after the other, as `trajectory_of_step` says. Value and
    gradient are those of the same trajectories in N rows.

    Args:
      log_probs: `[..., M, T]` log-probabilities of the actions taken, in nats.
      behaviour_log_probs: `[..., M, T]` those under the policy that sampled; a constant to the gradient.
      advantages: `[..., M]` advantages :math:`A_k`, see `group_relative_advantages`; a constant to the gradient.
      reference_log_probs: `[..., M, T]` those under the reference policy; a constant to the gradient.
      clip_epsilon: scalar :math:`\epsilon > 0`.
      kl_coef: scalar :math:`\lambda`; positive draws the policy to the reference. The penalty has no gradient
        while the two are equal.
      where: `[..., M, T]` boolean, True for the steps that count. A trajectory without one equals one that is
        not there, in value and gradient; a group without one contributes nothing.
      aggregation: `sequence_mean`, `token_mean` or `constant`.
      trajectory_of_step: `[..., M, T]` integers, for each step the trajectory that it belongs to, an index into
        `advantages`, which are then `[..., N]`; anything where masked. A traced index that is not there masks its
        step. By default row k holds trajectory k.
      max_steps: the most steps of a trajectory, T of `constant`, a whole number; by default the length of the time
        axis.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `GrpoMetrics` for each group.

    Raises:
      ValueError: `kl_coef` is not a concrete 0 and there are no `reference_log_probs`; `aggregation` is unknown;
        `clip_epsilon` or `kl_coef` is not a scalar; `clip_epsilon` is concrete and not positive; `log_probs` has
        less than two axes; `trajectory_of_step` is concrete and has a step of no trajectory; `max_steps` is no whole
        number of at least 1.
      TypeError: `where` is not boolean, or `trajectory_of_step` holds no integers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs, advantages = jnp.zeros((2, 2)), jnp.array([1.0, -1.0])
      >>> valid = jnp.array([[True, True], [True, False]])
      >>> options = {"clip_epsilon": 0.2, "kl_coef": 0.0, "where": valid}
      >>> for aggregation in ("sequence_mean", "token_mean", "constant"):
      ...     print(grpo_loss(log_probs, log_probs, advantages, aggregation=aggregation, **options)[0].round(4))
      0.0
      -0.3333
      -0.25

    Source: DeepSeekMath (arXiv 2402.03300), section 4.1; DAPO (arXiv 2503.14476), section 3.3; Dr. GRPO (arXiv
    2503.20783), section 3.
    """
    check_positive("clip_epsilon", clip_epsilon)
    settings = RatioSettings(
        level="token",
        shape="clip",
        clip_low=clip_epsilon,
        clip_high=clip_epsilon,
        aggregation=aggregation,
        kl_coef=kl_coef,
        where=where,
        trajectory_of_step=trajectory_of_step,
        max_steps=max_steps,
    )
    terms = ratio_terms(log_probs, behaviour_log_probs, advantages, reference_log_probs, settings)
    return mean_where(terms.group_losses, terms.metrics.num_valid > 0), terms.metrics

"""The terms of losses in the ratio of policy to behaviour policy: of steps, of trajectories, and how they add up.

Private to `haepo_jax.losses`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_sum,
    as_float,
    as_mask,
    check_choice,
    check_coefficient,
    check_count,
    check_positive,
    check_reference,
    check_same_shape,
    is_concrete,
    is_concrete_zero,
    mean_where,
    same_float,
    unless_zero,
)

AGGREGATIONS = ("sequence_mean", "token_mean", "constant")
"""What a group's sum over steps is divided by."""
LEVELS = ("token", "sequence", "geometric_mean")
"""What has a ratio: a step, the mean step of a trajectory, or the mean of its clipped steps."""
SHAPES = ("clip", "cispo", "sapo", "vespo", "none")
"""How a loss bounds the ratio."""
_CLIPPED = ("clip", "cispo")
_LARGEST_LOG_RATIO = 20.0
"""Above it exp continues as its tangent. exp(20) is 5e8: no policy that is trained on its own samples comes near."""


class PolicyRatioMetrics(NamedTuple):
    """Terms of a loss in the policy ratio, for each group.

    The loss of a group is `policy_loss + kl_coef * kl`.
    """

    policy_loss: jax.Array
    """`[...]` the losses of the steps, aggregated."""
    kl: jax.Array
    """`[...]` estimate of the divergence of the policy from the reference, in nats a step, aggregated as the loss
    is; 0 without reference log-probabilities."""
    clip_fraction: jax.Array
    """`[...]` share of the steps that a bound holds. Under the shape `clip` these get no gradient of the policy term;
    the shapes without bounds have the share 0."""
    approx_kl: jax.Array
    """`[...]` estimate of KL(behaviour, policy), in nats, the mean over steps."""
    mean_ratio: jax.Array
    """`[...]` mean over steps of the ratio, before any bound, on the loss's level."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that have a valid step."""
    num_steps: jax.Array
    """`[...]` int32, valid steps."""


class RatioSettings(NamedTuple):
    """Arguments of `policy_ratio_loss` that are no log-probabilities or advantages."""

    level: str
    shape: str
    clip_low: ArrayLike | None
    clip_high: ArrayLike | None
    aggregation: str
    kl_coef: ArrayLike = 0.0
    temperatures: Sequence[ArrayLike] = ()
    kernels: Sequence[Sequence[ArrayLike]] = ()
    importance_weights: ArrayLike | None = None
    where: ArrayLike | None = None
    trajectory_of_step: ArrayLike | None = None
    max_steps: int | None = None
    divisor: ArrayLike | None = None
    axis_name: AxisName = None


class RatioTerms(NamedTuple):
    group_losses: jax.Array
    """`[...]` loss of each group, 0 for those without a valid step."""
    metrics: PolicyRatioMetrics


class Steps(NamedTuple):
    """Each step's part in the loss, its ratio, and whether a bound holds it."""

    loss: jax.Array
    ratio: jax.Array
    held: jax.Array


def ratio_terms(
    log_probs: ArrayLike,
    behaviour_log_probs: ArrayLike,
    advantages: ArrayLike,
    reference_log_probs: ArrayLike | None,
    settings: RatioSettings,
) -> RatioTerms:
    """Computes the loss of each group and its metrics."""
    _check(settings, reference_log_probs)
    axis_name = settings.axis_name
    log_probs, advantages = as_float("log_probs", log_probs), as_float("advantages", advantages)
    if log_probs.ndim < 2:
        raise ValueError(f"log_probs must have an axis of trajectories and one of steps, got shape {log_probs.shape}.")
    shapes = f"log_probs {log_probs.shape}, advantages {advantages.shape}"
    packed = settings.trajectory_of_step is not None
    chex.assert_shape(
        advantages,
        (*log_probs.shape[:-2], None) if packed else log_probs.shape[:-1],
        custom_message=f"one advantage for each trajectory, no broadcasting: {shapes}",
    )
    given = {"log_probs": log_probs, "behaviour_log_probs": behaviour_log_probs}
    given |= {
        name: array
        for name, array in (
            ("reference_log_probs", reference_log_probs),
            ("importance_weights", settings.importance_weights),
        )
        if array is not None
    }
    mask = as_mask(settings.where, log_probs, "log_probs")
    places = _Places(mask, advantages.shape[-1], settings.trajectory_of_step)
    mask = places.mask
    of_steps, *cast = same_float(advantages=places.of_steps(advantages), **given)
    arrays = dict(zip(given, cast, strict=True))
    log_probs, weights = arrays["log_probs"], arrays.get("importance_weights")
    lengths = places.count_steps()
    num_valid, num_steps = (all_sum(counts.astype(jnp.int32), axis_name) for counts in (lengths > 0, lengths))
    longest = log_probs.shape[-1] if settings.max_steps is None else check_count("max_steps", settings.max_steps)
    divisor = _divisor(settings, num_valid, num_steps, longest, log_probs.dtype)

    def aggregate(steps: jax.Array) -> jax.Array:
        """Aggregates `[..., M, T] -> [...]`."""
        if settings.aggregation == "sequence_mean":
            return places.sum_of_means(steps, lengths, axis_name) / divisor
        return all_sum(jnp.where(mask, steps, 0), axis_name, axis=(-2, -1)) / divisor

    log_ratio = masked_log_ratio(log_probs, arrays["behaviour_log_probs"], mask)
    of_steps = lax.stop_gradient(jnp.where(mask, of_steps, 0))
    steps = _shaped(jnp.where(mask, log_probs, 0), log_ratio, of_steps, settings, places, lengths)
    losses = steps.loss
    if weights is not None:
        weights = lax.stop_gradient(jnp.where(mask, weights, 0))
        losses = weights * jnp.where(weights == 0, 0, losses)
    policy_loss = aggregate(losses)
    kl = jnp.zeros_like(policy_loss)
    group_losses = policy_loss
    if reference_log_probs is not None:
        reference = lax.stop_gradient(jnp.where(mask, arrays["reference_log_probs"], 0))
        to_reference = reference - jnp.where(mask, log_probs, 0)
        kl = aggregate(exp_less_tangent(to_reference))
        if not is_concrete_zero(settings.kl_coef):
            penalized = unless_zero(settings.kl_coef, to_reference)
            penalty = kl if penalized is to_reference else aggregate(exp_less_tangent(penalized))
            group_losses = policy_loss + jnp.asarray(settings.kl_coef, kl.dtype) * penalty
    metrics = PolicyRatioMetrics(
        policy_loss=policy_loss,
        kl=kl,
        clip_fraction=mean_where(steps.held.astype(steps.ratio.dtype), mask, (-2, -1), axis_name),
        approx_kl=mean_where(exp_less_tangent(log_ratio), mask, (-2, -1), axis_name),
        mean_ratio=mean_where(steps.ratio, mask, (-2, -1), axis_name),
        num_valid=num_valid,
        num_steps=num_steps,
    )
    return RatioTerms(group_losses, metrics)


def masked_log_ratio(log_probs: jax.Array, behaviour: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the log-ratio of policy to behaviour policy, 0 where masked; the latter is a constant."""
    return jnp.where(mask, log_probs, 0) - lax.stop_gradient(jnp.where(mask, behaviour, 0))


def clipped(log_ratio: jax.Array, advantages: jax.Array, low: jax.Array, high: jax.Array) -> Steps:
    """Computes the clipped surrogate of each element; advantages are constants, 0 where masked."""
    ratio = exp_or_tangent(log_ratio)
    gains, held = _held(ratio, advantages, low, high)
    # A choice rather than a minimum, which would halve the gradient where its two sides are equal.
    bounded = jnp.where(held, jnp.where(gains, 1 + high, 1 - low), ratio)
    return Steps(_pushed(bounded, advantages), ratio, held)


def exp_or_tangent(x: jax.Array) -> jax.Array:
    """Computes exp, and from the largest log-ratio on its tangent there: neither value nor slope overflows."""
    top = _LARGEST_LOG_RATIO
    return jnp.exp(jnp.minimum(x, top)) + jnp.exp(jnp.asarray(top, x.dtype)) * jnp.maximum(x - top, 0)


def exp_less_tangent(x: jax.Array) -> jax.Array:
    """Computes `exp(x) - 1 - x` for the same exp, without the cancellation of `exp(x) - 1`."""
    top = _LARGEST_LOG_RATIO
    below = jnp.minimum(x, top)
    return jnp.expm1(below) - below + jnp.expm1(jnp.asarray(top, x.dtype)) * jnp.maximum(x - top, 0)


class _Places:
    """Where the steps of N trajectories are: each trajectory in a row of its own, or packed."""

    def __init__(self, mask: jax.Array, num_trajectories: int, trajectory_of_step: ArrayLike | None) -> None:
        self.mask, self._num_trajectories = mask, num_trajectories
        """`mask` is `[..., M, T]`, True for the steps that count and whose trajectory is there."""
        self._of_step: jax.Array | None = None
        """`[..., M T]`."""
        if trajectory_of_step is not None:
            indices = jnp.asarray(trajectory_of_step)
            if not jnp.issubdtype(indices.dtype, jnp.integer):
                raise TypeError(f"trajectory_of_step must be integers, got dtype {indices.dtype}.")
            check_same_shape(log_probs=mask, trajectory_of_step=indices)
            there = (indices >= 0) & (indices < num_trajectories)
            if is_concrete(trajectory_of_step, mask) and _leads_nowhere(trajectory_of_step, num_trajectories, mask):
                raise ValueError(
                    f"trajectory_of_step must be at least 0 and below {num_trajectories}, the number of advantages, "
                    "for each step that counts."
                )
            self.mask = mask & there
            self._of_step = indices.reshape(*mask.shape[:-2], -1)

    def of_steps(self, values: jax.Array) -> jax.Array:
        """Gives each step the value of its trajectory: `[..., N] -> [..., M, T]`."""
        if self._of_step is None:
            return jnp.broadcast_to(values[..., None], self.mask.shape)
        return jnp.take_along_axis(values, self._of_step, axis=-1, mode="clip").reshape(self.mask.shape)

    def sum_steps(self, steps: jax.Array) -> jax.Array:
        """Sums over the valid steps of each trajectory: `[..., M, T] -> [..., N]`."""
        valid = jnp.where(self.mask, steps, 0)
        if self._of_step is None:
            return jnp.sum(valid, axis=-1, dtype=steps.dtype)
        sums = jnp.zeros((*self._of_step.shape[:-1], self._num_trajectories), steps.dtype)
        return jnp.vectorize(lambda row, indices, more: row.at[indices].add(more), signature="(n),(k),(k)->(n)")(
            sums, self._of_step, valid.reshape(self._of_step.shape)
        )

    def count_steps(self) -> jax.Array:
        """Counts the valid steps of each trajectory, `[..., N]`."""
        return self.sum_steps(self.mask.astype(jnp.int32))

    def sum_of_means(self, steps: jax.Array, lengths: jax.Array, axis_name: AxisName) -> jax.Array:
        """Averages over the steps of each trajectory, and adds the trajectories up: `[..., M, T] -> [...]`."""
        if self._of_step is None:
            means = mean_where(steps, self.mask, axis=-1)
            return all_sum(jnp.where(lengths > 0, means, 0), axis_name)
        shares = jnp.where(self.mask, steps, 0) / jnp.maximum(self.of_steps(lengths), 1).astype(steps.dtype)
        return all_sum(shares, axis_name, axis=(-2, -1))


def _leads_nowhere(trajectory_of_step: ArrayLike, num_trajectories: int, mask: jax.Array) -> bool:
    """Whether a step that counts is of no trajectory; by NumPy, which works on constants in traced functions too."""
    indices = np.asarray(trajectory_of_step)
    return bool(np.any(np.asarray(mask) & ((indices < 0) | (indices >= num_trajectories))))


def _shaped(
    log_probs: jax.Array,
    log_ratio: jax.Array,
    advantages: jax.Array,
    settings: RatioSettings,
    places: _Places,
    lengths: jax.Array,
) -> Steps:
    """What each step adds to the loss, under the level and the shape."""

    def of_trajectories(steps: jax.Array) -> jax.Array:
        """The mean over each trajectory's steps, given to all of them."""
        return places.of_steps(places.sum_steps(steps) / jnp.maximum(lengths, 1).astype(steps.dtype))

    shape = settings.shape
    if shape == "vespo":
        return _vespo(log_probs, places.of_steps(places.sum_steps(log_ratio)), advantages, settings.kernels)
    if settings.level == "geometric_mean" and shape == "clip":
        bounded, held = _bounded_steps(log_ratio, advantages, *_bounds(settings, log_ratio))
        loss = _pushed(exp_or_tangent(of_trajectories(bounded)), advantages)
        return Steps(loss, exp_or_tangent(of_trajectories(log_ratio)), held)
    if settings.level != "token":
        log_ratio = of_trajectories(log_ratio)
    if shape == "clip":
        return clipped(log_ratio, advantages, *_bounds(settings, log_ratio))
    ratio = exp_or_tangent(log_ratio)
    free = jnp.zeros(ratio.shape, bool)
    if shape == "cispo":
        low, high = _bounds(settings, ratio)
        weight = lax.stop_gradient(jnp.clip(ratio, 1 - low, 1 + high))
        return Steps(_pushed(log_probs, advantages, weight), ratio, ratio != weight)
    if shape == "sapo":
        positive, other = (jnp.asarray(temperature, ratio.dtype) for temperature in settings.temperatures)
        temperature = jnp.where(advantages > 0, positive, other)
        gate = jax.nn.sigmoid(temperature * (ratio - 1)) * (4 / temperature)
        return Steps(_pushed(gate, advantages), ratio, free)
    return Steps(_pushed(ratio, advantages), ratio, free)


def _bounds(settings: RatioSettings, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distances of the clip's bounds from 1; `_check` has seen to it that there are some."""
    return jnp.asarray(settings.clip_low, like.dtype), jnp.asarray(settings.clip_high, like.dtype)


def _vespo(
    log_probs: jax.Array, log_ratio: jax.Array, advantages: jax.Array, kernels: Sequence[Sequence[ArrayLike]]
) -> Steps:
    """The log-probabilities, weighed by a kernel of the ratio of the whole trajectory."""
    log_ratio = lax.stop_gradient(log_ratio)
    ratio = exp_or_tangent(log_ratio)
    (power, rate), (other_power, other_rate) = (
        (jnp.asarray(power, ratio.dtype), jnp.asarray(rate, ratio.dtype)) for power, rate in kernels
    )
    gains = advantages >= 0
    power, rate = jnp.where(gains, power, other_power), jnp.where(gains, rate, other_rate)
    # Of an infinite ratio the kernel is 0, which the difference of two infinities would not say.
    kernel = jnp.where(log_ratio == jnp.inf, 0, jnp.exp(power * log_ratio + rate * (1 - ratio)))
    return Steps(_pushed(log_probs, advantages, kernel), ratio, jnp.zeros(ratio.shape, bool))


def _bounded_steps(
    log_ratio: jax.Array, advantages: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-ratios of steps, each held by the clip on the side of its advantage, and whether it is."""
    gains, held = _held(exp_or_tangent(log_ratio), advantages, low, high)
    # Where the lower bound is not above 0 it holds nothing; its logarithm must not spoil the slope.
    bottom = jnp.log1p(-jnp.where(low < 1, low, 0))
    return jnp.where(held, jnp.where(gains, jnp.log1p(high), bottom), log_ratio), held


def _held(ratio: jax.Array, advantages: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether an element gains, and whether the clip holds it."""
    gains, loses = advantages > 0, advantages < 0
    return gains, (gains & (ratio > 1 + high)) | (loses & (ratio < 1 - low))


def _pushed(values: jax.Array, advantages: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Minus the values times advantages and weights, and 0 where one of these is, also of an infinite value."""
    products, nothing = -values * advantages, advantages == 0
    if weight is None:
        return jnp.where(nothing, 0, products)
    return jnp.where(nothing | (weight == 0), 0, weight * products)


def _divisor(
    settings: RatioSettings, num_valid: jax.Array, num_steps: jax.Array, longest: int, dtype: jnp.dtype
) -> jax.Array:
    """What the sum of a group is divided by."""
    if settings.divisor is not None:
        divisor = as_float("divisor", settings.divisor)
        if divisor.shape not in ((), num_valid.shape):
            raise ValueError(
                f"divisor must be a scalar or one number a group, of shape {num_valid.shape}, got an array of shape "
                f"{divisor.shape}."
            )
        if is_concrete(settings.divisor) and not np.all(np.asarray(settings.divisor) > 0):
            raise ValueError(f"divisor must be positive, got {settings.divisor}.")
        return divisor.astype(dtype)
    counts = {"sequence_mean": num_valid, "token_mean": num_steps, "constant": num_valid * longest}
    return jnp.maximum(counts[settings.aggregation], 1).astype(dtype)


def _check(settings: RatioSettings, reference_log_probs: ArrayLike | None) -> None:
    level, shape = settings.level, settings.shape
    check_choice("level", level, LEVELS)
    check_choice("shape", shape, SHAPES)
    check_choice("aggregation", settings.aggregation, AGGREGATIONS)
    check_coefficient("kl_coef", settings.kl_coef)
    check_reference(settings.kl_coef, "reference_log_probs", reference_log_probs)
    if level == "geometric_mean" and shape not in ("clip", "none"):
        raise ValueError(f"level 'geometric_mean' has the shapes clip and none, got {shape!r}.")
    if shape == "vespo" and level != "sequence":
        raise ValueError(f"shape 'vespo' weighs whole trajectories and has the level sequence, got {level!r}.")
    clips = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
    if shape not in _CLIPPED:
        given = [name for name, value in clips.items() if value is not None]
        if given:
            raise ValueError(f"shape {shape!r} has no clip; leave {' and '.join(given)} out.")
    elif None in clips.values():
        raise ValueError(f"shape {shape!r} needs clip_low and clip_high; clip_low=1 and clip_high=inf hold nothing.")
    else:
        for name, value in clips.items():
            check_positive(name, value)  # type: ignore[arg-type]
    if shape == "sapo":
        _check_positive_pair("temperatures", settings.temperatures)
    if shape == "vespo":
        if not isinstance(settings.kernels, list | tuple) or len(settings.kernels) != 2:
            raise ValueError(f"kernels must be two pairs of power and rate, got {settings.kernels!r}.")
        for name, pair in zip(("kernels[0]", "kernels[1]"), settings.kernels, strict=True):
            _check_positive_pair(name, pair)


def _check_positive_pair(name: str, pair: Sequence[ArrayLike]) -> None:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{name} must be two positive numbers, got {pair!r}.")
    for position, value in enumerate(pair):
        check_positive(f"{name}[{position}]", value)

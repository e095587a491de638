"""The distribution over trajectories to which HAEPO's loss draws the weights.

The returns say which trajectories it prefers, a reference where it starts from, a temperature how much each counts,
and the kind of the target whether a return counts exponentially or by how far it is above a baseline.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_max,
    all_sum,
    as_float,
    as_mask,
    check_choice,
    check_positive,
    check_rank,
    check_share,
    is_concrete,
    same_float,
    start_of_loop,
)
from haepo_jax.losses.weights import plackett_luce_log_weights

TARGETS = ("boltzmann", "linear")
"""The kinds of target that the weights are drawn to, see `target_log_weights`."""


def target_log_weights(
    normalized_returns: ArrayLike,
    reference_log_weights: ArrayLike | None = None,
    *,
    kind: str = "boltzmann",
    effective_sample_size: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the logarithm of the target weights: of each kind, the best trade of return against divergence.

    ============ ====================================================== ===========================================
    kind         weights :math:`w^*_k`                                  divergence from the reference that b weighs
    ============ ====================================================== ===========================================
    `boltzmann`  :math:`\propto w^{ref}_k \exp(\tilde R_k / b)`         :math:`KL(w \,\|\, w^{ref})`
    `linear`     :math:`w^{ref}_k \max(0, (\tilde R_k - c) / b)`        :math:`\frac12 \chi^2(w \,\|\, w^{ref})`
    ============ ====================================================== ===========================================

    The baseline c makes the linear weights sum to 1. Where chance decides much of a return, an exponential prefers
    what is risky to what is good on average, as the best returns are the luckiest. A line does so only through what it
    cuts off below c, which is the less the larger b is.

    Give either the temperature b or, as `effective_sample_size`, how many trajectories the returns are to pick:
    then `target_temperature` finds b for each group, and the target is the same for returns in any unit and from any
    zero. Trajectories of equal return get, but for the reference, equal weights to the last bit.

    Args:
      normalized_returns: `[..., M]` returns :math:`\tilde R_k`; a constant to the gradient. A return of -inf is a
        weight of 0, as if masked.
      reference_log_weights: `[..., M]` log-weights :math:`\log w^{ref}_k`, up to a constant for each group; a
        constant to the gradient. -inf is a weight of 0, as if masked. Without them the reference is uniform.
      kind: `boltzmann` or `linear`.
      effective_sample_size: scalar share of the valid trajectories, between 0 and 1; see `target_temperature`. What
        the returns alone are worth: a reference that is not uniform makes the target sharper or flatter than that.
      temperature: :math:`b > 0` in units of the normalised returns, a scalar or one for each group, `[...]`. The
        gradient flows through it. A traced one that is 0, or less than the spread of the returns times the dtype's
        epsilon, gives the limit: all the weight on the best return, shared by those that tie for it.
      where: `[..., M]` boolean, True for the trajectories that count.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`.

    Returns:
      `[..., M]` log-weights, float32 or float64; -inf for masked trajectories, for those whose linear weight is 0, and
      for all of a group that has no valid one. Equal returns give the reference, or equal weights; a lone trajectory
      has the weight 1.

    Raises:
      ValueError: neither or both of `effective_sample_size` and `temperature` are given, or a concrete one is out
        of its range; `kind` is unknown; `temperature` has another shape; the returns are a scalar; `axis_name` is not
        mapped.
      TypeError: `where` is not boolean, or an argument holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> print(jnp.exp(target_log_weights(jnp.log(jnp.array([1.0, 3.0, 4.0])), temperature=1.0)))
      [0.125 0.375 0.5  ]
      >>> halves = target_log_weights(jnp.array([0.0, 7.0, 7.0, 0.0]), effective_sample_size=0.5)
      >>> print(jnp.exp(halves).round(3))
      [0.  0.5 0.5 0. ]
      >>> linear = target_log_weights(jnp.array([0.0, 0.0, 1.0, 2.0]), kind="linear", temperature=0.5)
      >>> print((100 * jnp.exp(linear)).round())
      [ 0.  0. 25. 75.]

    Source: the distribution of Peters et al. (2010), "Relative entropy policy search", within a group; `linear`:
    Belousov and Peters (2017), "f-Divergence constrained policy improvement" (arXiv 1801.00056), with Pearson's
    divergence; docs/method.md compares them with those of others.
    """
    check_choice("kind", kind, TARGETS)
    if (effective_sample_size is None) == (temperature is None):
        given = "neither" if temperature is None else "both"
        raise ValueError(f"give one of effective_sample_size and temperature; {given} was given.")
    given_arrays = {"normalized_returns": normalized_returns}
    if reference_log_weights is not None:
        given_arrays["reference_log_weights"] = reference_log_weights
    returns, *references = same_float(**given_arrays)
    check_rank("normalized_returns", returns)
    mask = as_mask(where, returns, "normalized_returns")
    if temperature is None:
        assert effective_sample_size is not None
        temperature = target_temperature(
            returns, kind=kind, effective_sample_size=effective_sample_size, where=mask, axis_name=axis_name
        )
    else:
        check_temperature(temperature, returns)
    reference = lax.stop_gradient(references[0]) if references else None
    return log_weights_of(kind, returns, reference, temperature, mask, axis_name)


def target_temperature(
    normalized_returns: ArrayLike,
    *,
    kind: str = "boltzmann",
    effective_sample_size: ArrayLike,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the temperature at which the returns of a group are worth a given share of its trajectories.

    .. math:: b:\quad \frac{1}{\sum_k p_k^2} = \rho M, \qquad p = \mathrm{softmax}(\tilde R / b)
       \quad\text{or}\quad p_k = \max(0, (\tilde R_k - c) / b) / M

    The left side rises with b, from the number of trajectories that tie for the best return to M, the number of valid
    ones: there is one answer, found by bisection in log b. It scales with the returns, and a constant added to them
    does not change it. What it (of `linear`: how far the baseline is below the best return) cannot be is less than the
    spread of the returns (largest less smallest) times the dtype's epsilon, nor more than that spread over the root of
    epsilon; within the precision of the dtype the weights are their limits beyond. So, where at least :math:`\rho M`
    trajectories tie for the best return, b is small, at the lower bound if there are more of them, and the weights are
    equal among these and 0 elsewhere.

    Args:
      normalized_returns: `[..., M]` returns :math:`\tilde R_k`. One of -inf counts as masked.
      kind: `boltzmann` or `linear`, see `target_log_weights`.
      effective_sample_size: scalar share :math:`\rho` of the valid trajectories, between 0 and 1. A traced one
        beyond gives the bound of b on its side.
      where: `[..., M]` boolean, True for the trajectories that count.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`.

    Returns:
      `[...]` temperatures b in units of the normalised returns, float32 or float64, a constant to the gradient. 0
      for a group without spread: of equal returns, of one valid trajectory or of none.

    Raises:
      ValueError: the returns are a scalar, `kind` is unknown, or a concrete `effective_sample_size` is not between 0
        and 1.
      TypeError: `where` is not boolean, or an argument holds no real numbers.
      AssertionError: `where` has another shape than the returns.

    Example:
      >>> import jax.numpy as jnp
      >>> returns = jnp.array([0.0, 1.0, 2.0, 5.0])
      >>> print(target_temperature(returns, effective_sample_size=0.5).round(3))
      2.081
      >>> print(target_temperature(10 * returns + 3, effective_sample_size=0.5).round(2))
      20.81

    Source: this project's, see docs/method.md; effective sample size: Kish (1965), "Survey Sampling".
    """
    check_choice("kind", kind, TARGETS)
    check_share("effective_sample_size", effective_sample_size)
    returns = lax.stop_gradient(as_float("normalized_returns", normalized_returns))
    check_rank("normalized_returns", returns)
    share = lax.stop_gradient(jnp.asarray(effective_sample_size, returns.dtype))
    ranked = _rank(returns, as_mask(where, returns, "normalized_returns"), axis_name)
    number = all_sum(ranked.present.astype(returns.dtype), axis_name)
    weigh = _WEIGH[kind]

    def is_flatter(evenness: jax.Array) -> jax.Array:
        weights = jnp.where(ranked.present, weigh(ranked.places, evenness[..., None]), 0)
        # Not as a quotient, which would be 0 / 0 in a group with no valid trajectory.
        return jnp.square(all_sum(weights, axis_name)) > share * number * all_sum(jnp.square(weights), axis_name)

    found = _bisect(is_flatter, ranked.spread)
    if kind == "linear":
        above = all_sum(jnp.where(ranked.present, weigh(ranked.places, found[..., None]), 0), axis_name)
        found = above / jnp.maximum(number, 1)
    return jnp.where(jnp.isnan(share), share, ranked.spread * found / ranked.scale)


def log_weights_of(
    kind: str,
    returns: jax.Array,
    reference_log_weights: jax.Array | None,
    temperature: ArrayLike,
    mask: jax.Array,
    axis_name: AxisName,
) -> jax.Array:
    """Computes `target_log_weights` of checked arrays, with a gradient to the temperature and the reference."""
    if reference_log_weights is not None:
        mask = mask & (reference_log_weights != -jnp.inf)
    ranked = _rank(lax.stop_gradient(returns), mask, axis_name)
    # In units of the spread, so that no temperature or return of an extreme size overflows.
    unit = jnp.where(ranked.spread == 0, 1, ranked.spread)
    relative = jnp.asarray(temperature, returns.dtype) * ranked.scale / unit
    of_kind = {"boltzmann": _boltzmann_log_weights, "linear": _linear_log_weights}[kind]
    return of_kind(ranked, reference_log_weights, relative, axis_name)


def _boltzmann_log_weights(
    ranked: "_Ranked", reference_log_weights: jax.Array | None, relative: jax.Array, axis_name: AxisName
) -> jax.Array:
    epsilon = jnp.finfo(relative.dtype).eps
    scores = ranked.places / jnp.where(relative < epsilon, epsilon, relative)[..., None]
    if reference_log_weights is not None:
        scores += jnp.where(ranked.present, reference_log_weights, 0)
    return plackett_luce_log_weights(scores, where=ranked.present, axis_name=axis_name)


def _linear_log_weights(
    ranked: "_Ranked", reference_log_weights: jax.Array | None, relative: jax.Array, axis_name: AxisName
) -> jax.Array:
    """Log-weights `[..., M]` by how far each return is above the baseline, which is found from the temperature.

    The margin is how far the baseline is below the best return: it is between the temperature and 1 more than that.
    """
    epsilon = jnp.finfo(relative.dtype).eps
    relative = jnp.where(relative > 1 / epsilon, 1 / epsilon, relative)  # a target that rounds to the reference
    flat = jnp.zeros_like(ranked.places) if reference_log_weights is None else reference_log_weights
    log_prior = plackett_luce_log_weights(flat, where=ranked.present, axis_name=axis_name)
    prior = jnp.exp(log_prior)
    fixed_prior, wanted = lax.stop_gradient(prior), lax.stop_gradient(relative)

    def mean_above(prior: jax.Array, margin: jax.Array) -> jax.Array:
        return all_sum(prior * jnp.maximum(ranked.places + margin[..., None], 0), axis_name)

    near = _bisect(lambda margin: mean_above(fixed_prior, margin) > wanted, ranked.spread)
    # A step of Newton's method, exact between two returns, which the gradient goes through.
    slope = all_sum(fixed_prior * (ranked.places + near[..., None] > 0), axis_name)
    margin = near + (relative - mean_above(prior, near)) / jnp.where(slope > 0, slope, 1)
    margin = jnp.where(margin < epsilon, epsilon, margin)  # the best alone
    above = ranked.places + margin[..., None]
    counts = ranked.present & ~(above <= 0)  # of NaN too, which is to be seen
    scores = jnp.log(jnp.where(counts, above, 1)) + jnp.where(counts, log_prior, 0)
    return plackett_luce_log_weights(scores, where=counts, axis_name=axis_name)


_WEIGH: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "boltzmann": lambda places, temperature: jnp.exp(places / temperature),
    "linear": lambda places, margin: jnp.maximum(places + margin, 0),
}
"""For each kind the weights, up to their sum, of places by a number: the larger, the more even. It is the temperature
or, of `linear`, how far the baseline is below the best return; both in units of the spread."""


def _bisect(is_enough: Callable[[jax.Array], jax.Array], groups: jax.Array) -> jax.Array:
    """Finds, for each of the groups `[...]`, the number from which on `is_enough` holds, by its logarithm."""
    precision = jnp.finfo(groups.dtype)

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        enough = is_enough(jnp.exp(middle))
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    log_epsilon = jnp.log(precision.eps).astype(groups.dtype)
    bounds = start_of_loop(log_epsilon, groups), start_of_loop(-log_epsilon / 2, groups)
    # As many halvings as resolve the logarithm to the precision of the number.
    low, _ = lax.fori_loop(0, precision.nmant + 6, halve, bounds)
    return jnp.exp(low)


class _Ranked(NamedTuple):
    present: jax.Array
    """`[..., M]` True for the trajectories that can have a weight."""
    places: jax.Array
    """`[..., M]` how far each return is from the best, in units of the spread: 0 for the best, -1 for the worst. Equal
    returns have equal places; all are 0 where there is no spread, and where masked."""
    spread: jax.Array
    """`[...]` best return less the worst, times the scale."""
    scale: jax.Array
    """`[...]` 1, or less where the spread is near the largest number of this dtype, or beyond it."""


def _rank(returns: jax.Array, mask: jax.Array, axis_name: AxisName) -> _Ranked:
    present = mask & (returns != -jnp.inf)
    best = all_max(jnp.where(present, returns, -jnp.inf), axis_name)
    worst = -all_max(jnp.where(present, -returns, -jnp.inf), axis_name)
    empty = best == -jnp.inf
    best, worst = jnp.where(empty, 0, best), jnp.where(empty, 0, worst)
    # Compiled programs take the reciprocal of a number from a quarter of the largest on for 0.
    scale = jnp.where(best - worst > 0.25 / jnp.finfo(best.dtype).tiny, 1 / 64, 1).astype(best.dtype)
    best, worst = best * scale, worst * scale
    spread = best - worst
    offsets = jnp.where(present, returns * scale[..., None] - best[..., None], 0)
    return _Ranked(present, offsets / jnp.where(spread == 0, 1, spread)[..., None], spread, scale)


def check_temperature(temperature: ArrayLike, returns: jax.Array) -> None:
    """Refuses what is neither a positive number nor one for each group, and concrete ones below 0."""
    groups = returns.shape[:-1]
    numbers = as_float("temperature", temperature)
    if not groups or numbers.ndim == 0:
        check_positive("temperature", temperature)
    elif numbers.shape != groups:
        raise ValueError(
            f"temperature must be a scalar or one number a group, of shape {groups}, got an array of shape "
            f"{numbers.shape}."
        )
    elif is_concrete(temperature) and not bool(jnp.all(numbers >= 0)):
        raise ValueError(f"temperature must not be negative, got {temperature}.")

"""Trajectories that compete: scores, their Plackett-Luce weights, and how spread out the weights are.

Weights are kept as logarithms throughout. A trajectory that takes no part has the log-weight -inf, which
every function here reads as "absent": it adds 0 to every value and gets a gradient of 0.
"""

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
    check_same_shape,
    same_float,
)

SCORES = ("sum", "mean", "log_ratio")
"""What the softmax ranks, see `trajectory_scores`."""


def trajectory_scores(
    log_likelihoods: ArrayLike,
    *,
    kind: str = "sum",
    lengths: ArrayLike | None = None,
    behaviour_log_likelihoods: ArrayLike | None = None,
) -> jax.Array:
    r"""Computes the score of each trajectory: the quantity that the softmax over trajectories ranks.

    ============= =========================== ===========================================================
    kind          score                       what its weights mean
    ============= =========================== ===========================================================
    `sum`         :math:`L_k`                 the paper's; saturates as trajectories grow longer
    `mean`        :math:`L_k / T_k`           length-normalised
    `log_ratio`   :math:`L_k - L_k^\beta`     self-normalised importance weights, uniform on fresh data
    ============= =========================== ===========================================================

    Args:
      log_likelihoods: `[..., M]` log-likelihoods :math:`L_k` under the policy that is trained, in nats.
      kind: `sum`, `mean` or `log_ratio`.
      lengths: `[..., M]` valid steps :math:`T_k`, for `mean` (a length of 0 is read as 1). Other kinds look at its
        shape alone.
      behaviour_log_likelihoods: `[..., M]` log-likelihoods :math:`L_k^\beta` under the policy that sampled the
        trajectories, for `log_ratio`; a constant to the gradient. Other kinds look at its shape alone.

    Returns:
      `[..., M]` scores, float32 or float64.

    Raises:
      ValueError: an unknown `kind`, or the argument that the kind needs is missing.
      AssertionError: arrays of different shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> print(trajectory_scores(jnp.array([-2.0, -6.0]), kind="mean", lengths=jnp.array([2, 3])))
      [-1. -2.]

    Source: `sum` is HAEPO (arXiv 2508.18884), section 3; the others are this project's, see docs/method.md.
    """
    check_choice("kind", kind, SCORES)
    # Also those that the kind ignores: another shape says that steps were given in place of trajectories.
    given = {"lengths": lengths, "behaviour_log_likelihoods": behaviour_log_likelihoods}
    arrays = {name: as_float(name, value) for name, value in given.items() if value is not None}
    check_same_shape(log_likelihoods=as_float("log_likelihoods", log_likelihoods), **arrays)
    if kind == "mean":
        if lengths is None:
            raise ValueError("kind 'mean' needs lengths, the number of valid steps of each trajectory.")
        log_likelihoods, lengths = same_float(log_likelihoods=log_likelihoods, lengths=lengths)
        return log_likelihoods / lax.stop_gradient(jnp.maximum(lengths, 1))
    if kind == "log_ratio":
        if behaviour_log_likelihoods is None:
            raise ValueError("kind 'log_ratio' needs behaviour_log_likelihoods, those of the policy that sampled.")
        log_likelihoods, behaviour = same_float(
            log_likelihoods=log_likelihoods, behaviour_log_likelihoods=behaviour_log_likelihoods
        )
        return log_likelihoods - lax.stop_gradient(behaviour)
    return as_float("log_likelihoods", log_likelihoods)


def plackett_luce_log_weights(
    scores: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the logarithm of the Plackett-Luce first-choice probability of each trajectory.

    .. math:: \log w_k = S_k / \tau - \log \sum_j \exp(S_j / \tau)

    A constant added to all scores changes nothing; the largest score is subtracted first, so no score
    overflows.

    Args:
      scores: `[..., M]` scores :math:`S_k`. A score of -inf is a weight of 0, as if masked.
      temperature: scalar :math:`\tau > 0`.
      where: `[..., M]` boolean, True for the trajectories that compete.
      axis_name: name (or names) of the mapped axis over which M is spread, under `shard_map` or `vmap`.

    Returns:
      `[..., M]` log-weights; -inf for masked trajectories, and for all of a group that has no valid one.

    Raises:
      ValueError: `scores` is a scalar, or a concrete `temperature` is not positive.
      TypeError: `where` is not boolean.
      AssertionError: `where` has another shape than `scores`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(jnp.exp(plackett_luce_log_weights(jnp.log(jnp.array([1.0, 3.0, 4.0])))))
      [0.125 0.375 0.5  ]

    Source: HAEPO (arXiv 2508.18884), section 3; Plackett (1975), "The analysis of permutations".
    """
    scores = as_float("scores", scores)
    check_rank("scores", scores)
    check_positive("temperature", temperature)
    present = as_mask(where, scores, "scores") & (scores != -jnp.inf)
    # Masked before the division too, whose slope in the temperature is the score itself.
    scores = jnp.where(present, scores, 0) / jnp.asarray(temperature, scores.dtype)
    top = all_max(jnp.where(present, scores, -jnp.inf), axis_name)
    top = jnp.where(top == -jnp.inf, 0, top)[..., None]
    # A `where` on both sides of exp: a masked NaN or infinity must not reach the gradient either.
    shifted = jnp.where(present, scores - top, 0)
    total = all_sum(jnp.where(present, jnp.exp(shifted), 0), axis_name)[..., None]
    log_total = jnp.log(jnp.where(total == 0, 1, total))
    return jnp.where(present, shifted - log_total, -jnp.inf)


def weights_entropy(log_weights: ArrayLike, *, axis_name: AxisName = None) -> jax.Array:
    r"""Computes the entropy of the weights, :math:`H(w) = -\sum_k w_k \log w_k`.

    Args:
      log_weights: `[..., M]` log-weights, -inf where absent.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[...]` entropies in nats, between 0 and log M; 0 for a group with no valid trajectory.

    Raises:
      ValueError: `log_weights` is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> print(round(float(jnp.exp(weights_entropy(jnp.log(jnp.full(4, 0.25))))), 4))
      4.0

    Source: HAEPO (arXiv 2508.18884), the entropy regulariser of section 3.
    """
    log_weights = as_float("log_weights", log_weights)
    check_rank("log_weights", log_weights)
    present = log_weights != -jnp.inf
    safe = jnp.where(present, log_weights, 0)
    return -all_sum(jnp.where(present, jnp.exp(safe) * safe, 0), axis_name)


def weights_kl(log_weights: ArrayLike, reference_log_weights: ArrayLike, *, axis_name: AxisName = None) -> jax.Array:
    r"""Computes the Kullback-Leibler divergence of the weights from the reference's,
    :math:`\sum_k w_k (\log w_k - \log w_k^{ref})`.

    Its gradient with respect to the weights is zero where the two are equal.

    Args:
      log_weights: `[..., M]` log-weights of the policy, -inf where absent.
      reference_log_weights: `[..., M]` log-weights of the reference policy on the same trajectories.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[...]` divergences in nats, at least 0 up to rounding; inf where the reference gives no weight to a
      trajectory that the policy does.

    Raises:
      ValueError: the log-weights are scalars.
      AssertionError: arrays of different shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> w, reference = jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75])
      >>> print(round(float(weights_kl(jnp.log(w), jnp.log(reference))), 4))
      0.1438

    Source: HAEPO (arXiv 2508.18884), the soft KL penalty of section 3.
    """
    log_weights, reference = same_float(log_weights=log_weights, reference_log_weights=reference_log_weights)
    check_rank("log_weights", log_weights)
    # By the weight, not by its logarithm: a weight that underflows to 0 against a reference of 0 is 0, not NaN.
    active = jnp.exp(log_weights) != 0
    safe, safe_reference = jnp.where(active, log_weights, 0), jnp.where(active, reference, 0)
    return all_sum(jnp.where(active, jnp.exp(safe) * (safe - safe_reference), 0), axis_name)


def effective_sample_size(log_weights: ArrayLike, *, axis_name: AxisName = None) -> jax.Array:
    r"""Computes how many trajectories the weights are worth, :math:`1 / \sum_k w_k^2`.

    Args:
      log_weights: `[..., M]` log-weights, -inf where absent.
      axis_name: name of the mapped axis over which M is spread.

    Returns:
      `[...]` between 1 (one trajectory has all the weight) and M (equal weights); 0 for a group with no
      valid trajectory.

    Raises:
      ValueError: `log_weights` is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> print(effective_sample_size(jnp.log(jnp.array([0.5, 0.5, 0.0]))))
      2.0

    Source: Kish (1965), "Survey Sampling".
    """
    log_weights = as_float("log_weights", log_weights)
    check_rank("log_weights", log_weights)
    present = log_weights != -jnp.inf
    squares = all_sum(jnp.where(present, jnp.exp(2 * jnp.where(present, log_weights, 0)), 0), axis_name)
    return jnp.where(squares == 0, 0, 1 / jnp.where(squares == 0, 1, squares))

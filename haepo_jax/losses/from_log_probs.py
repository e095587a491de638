"""The recommended form of the loss in one call, from what a training loop of one's own has at hand."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import AxisName, as_float, as_mask, check_same_shape
from haepo_jax.losses._haepo_terms import HaepoMetrics
from haepo_jax.losses.haepo import haepo_loss
from haepo_jax.losses.likelihood import trajectory_log_likelihood
from haepo_jax.losses.weights import trajectory_scores

_SETTINGS: Mapping[str, Any] = {
    "temperature": 4.0,
    "normalization": "zscore",
    "projection": "forward",
    "target": "linear",
    "target_effective_sample_size": 0.5,
    "kl_coef": 0.0,
}
"""Those of the default config."""


def haepo_from_log_probs(
    log_probs: ArrayLike,
    behaviour_log_probs: ArrayLike,
    returns: ArrayLike,
    *,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, HaepoMetrics]:
    r"""Computes the HAEPO loss with the settings of the default config, which were chosen for tasks of every kind.

    The score is the `log_ratio` to the policy that sampled, divided by a temperature of 4; returns are z-scored; the
    loss is the `forward` projection on a `linear` target that is worth half of the trajectories. There is no number to
    choose and no reference: several gradient steps on one batch stay near the policy that sampled it. The default
    config takes four, lets the episodes of seven earlier batches compete again, and explores.
    `trajectory_log_likelihood`, `trajectory_scores` and `haepo_loss` are the parts, with all settings.

    Args:
      log_probs: `[..., M, T]` log-probability of the action taken at each step, in nats, under the policy that is
        trained.
      behaviour_log_probs: `[..., M, T]` the same under the policy that sampled them; a constant to the gradient.
      returns: `[..., M]` return of each trajectory, in any unit; a constant to the gradient.
      where: `[..., M, T]` boolean, True for the steps that count. A trajectory without any does not count.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`.

    Returns:
      `(loss, metrics)`: the scalar loss, the mean over the groups, and `HaepoMetrics` for each group.

    Raises:
      ValueError: `log_probs` has fewer than two axes, or `axis_name` is not mapped.
      TypeError: `where` is not boolean, or an array holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax
      >>> log_probs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.25], [0.5, 0.25]]))
      >>> returns = jnp.array([1.0, 0.0, 0.0])
      >>> slopes = jax.grad(lambda x: haepo_from_log_probs(x, log_probs, returns)[0])(log_probs)
      >>> print((100 * slopes).round(1))  # a step against them makes the first trajectory likelier
      [[-11.8 -11.8]
       [  5.9   5.9]
       [  5.9   5.9]]

    Source: HAEPO (arXiv 2508.18884), section 3; the settings: docs/method.md, "The default".
    """
    log_probs = as_float("log_probs", log_probs)
    if log_probs.ndim < 2:
        raise ValueError(f"log_probs must have the shape [..., M, T], got {log_probs.shape}.")
    mask = as_mask(where, log_probs, "log_probs")
    check_same_shape(log_probs=log_probs, behaviour_log_probs=as_float("behaviour_log_probs", behaviour_log_probs))
    scores = trajectory_scores(
        trajectory_log_likelihood(log_probs, where=mask),
        kind="log_ratio",
        behaviour_log_likelihoods=trajectory_log_likelihood(behaviour_log_probs, where=mask),
    )
    return haepo_loss(
        scores,
        returns,
        entropy_coef=1.0,  # all of the found temperature
        **_SETTINGS,
        where=jnp.any(mask, axis=-1),
        axis_name=axis_name,
    )

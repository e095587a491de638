"""V-MPO on trajectories: the best of a group, weighed by a temperature that a bound on information decides."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    all_gather,
    all_max,
    all_sum,
    as_float,
    as_mask,
    check_finite_positive,
    check_rank,
    check_scalar,
    is_concrete,
    mean_where,
    same_float,
)
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups
from haepo_jax.losses.targets import check_temperature, target_log_weights
from haepo_jax.losses.weights import effective_sample_size


class VmpoMetrics(NamedTuple):
    """Terms of a V-MPO loss, for each group. The loss of a group is the sum of the three losses."""

    policy_loss: jax.Array
    """`[...]` minus the weighted log-likelihood of the best."""
    temperature_loss: jax.Array
    """`[...]` the dual, whose slope in the temperature is the bound less the weights' divergence."""
    kl_loss: jax.Array
    """`[...]` the bound on the policy's move; 0 without divergences."""
    log_weights: jax.Array
    """`[..., M]` logarithm of the weights, -inf for trajectories that are not among the best."""
    weights_kl: jax.Array
    """`[...]` divergence of the weights from even ones over the best, in nats: at the dual's optimum the bound."""
    effective_sample_size: jax.Array
    """`[...]` `1 / sum_k w_k^2`."""
    num_selected: jax.Array
    """`[...]` int32, trajectories among the best."""
    num_valid: jax.Array
    """`[...]` int32, trajectories that are not masked."""


def vmpo_loss(
    log_likelihoods: ArrayLike,
    advantages: ArrayLike,
    kl: ArrayLike | None = None,
    *,
    temperature: ArrayLike,
    temperature_bound: ArrayLike,
    kl_multiplier: ArrayLike | None = None,
    kl_bound: ArrayLike | None = None,
    top_share: float = 0.5,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, VmpoMetrics]:
    r"""Computes the V-MPO loss of trajectories: a fit to the best ones, and the duals of its two bounds.

    With B the share of the valid trajectories that have the largest advantages, N of them,

    .. math::
        w_k &\propto e^{A_k / \eta} \text{ on } B, \qquad \ell_\pi = -\sum_{k \in B} w_k L_k \\
        \ell_\eta &= \eta \left(\epsilon_\eta + \log \frac{1}{N} \sum_{k \in B} e^{A_k / \eta}\right), \qquad
        \frac{\partial \ell_\eta}{\partial \eta} = \epsilon_\eta - KL(w \,\|\, 1/N) \\
        \ell_\alpha &= \alpha \left(\epsilon_\alpha - sg(KL)\right) + sg(\alpha) \, KL

    summed, and averaged over the groups that have a valid trajectory. The weights are constants to the gradient.
    Learn the temperature :math:`\eta` by descent on the same loss, kept positive (`softplus`), and it settles where
    the weights are worth :math:`\epsilon_\eta` nats; so does the multiplier :math:`\alpha`. A temperature need not be
    learned: `target_temperature` finds one from an effective sample size, and may be given for each group. The weights
    are those of `target_log_weights` over the best, the policy's loss HAEPO's `forward` projection without the softmax
    over the group: it raises the likelihood of the best and lowers none.

    Args:
      log_likelihoods: `[..., M]` log-likelihoods :math:`L_k`, in nats.
      advantages: `[..., M]` advantages :math:`A_k`; a constant to the gradient. A constant added to all changes
        nothing but the loss's value.
      kl: `[..., M]` divergence of the policy from the one that sampled along each trajectory, in nats, with its
        gradient to the policy; averaged over the valid ones. None for no bound on it.
      temperature: :math:`\eta > 0` in units of the advantages, a scalar or one for each group, `[...]`. The gradient
        flows to it through its dual alone.
      temperature_bound: scalar :math:`\epsilon_\eta > 0`, in nats.
      kl_multiplier: scalar :math:`\alpha > 0`; needed with `kl`. The gradient flows to it.
      kl_bound: scalar :math:`\epsilon_\alpha > 0`, in nats; needed with `kl`.
      top_share: share of the valid trajectories that are among the best, above 0 and at most 1; rounded up. Those that
        tie with the last of them are too.
      reduce_fn: what makes a scalar of the losses of the groups, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`.
      where: `[..., M]` boolean, True for the trajectories that count.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`. Every device gets the
        same, global loss; take `lax.pmean` of the gradient of replicated parameters.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64 (`[...]` losses without `reduce_fn`), and `VmpoMetrics`
      for each group.

    Raises:
      ValueError: a number is an array, or concrete and out of its range; `temperature` has another shape; `kl`,
        `kl_multiplier` and `kl_bound` are not given together; the arrays are scalars; `reduce_fn` returns no scalar;
        `axis_name` is not mapped.
      TypeError: `where` is not boolean, or `reduce_fn` is no function.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> advantages = jnp.log(jnp.array([3.0, 1.0, 0.5, 0.5]))
      >>> loss, metrics = vmpo_loss(-jnp.ones(4), advantages, temperature=1.0, temperature_bound=0.1)
      >>> print([f"{weight:.2f}" for weight in jnp.exp(metrics.log_weights)], metrics.policy_loss)
      ['0.75', '0.25', '0.00', '0.00'] 1.0

    Source: Song et al. (2020, arXiv 1909.12238), on single steps. Also in rlax and Stoix, whose
    bounds are 0.5 nats for the weights and 0.001 for the policy.
    """
    check_finite_positive("temperature_bound", temperature_bound)
    check_scalar("top_share", top_share)
    if not (is_concrete(top_share) and 0 < float(top_share) <= 1):
        raise ValueError(f"top_share must be a number above 0 and at most 1, got {top_share}.")
    given = {"kl": kl, "kl_multiplier": kl_multiplier, "kl_bound": kl_bound}
    present = [name for name, value in given.items() if value is not None]
    if 0 < len(present) < len(given):
        raise ValueError(f"kl, kl_multiplier and kl_bound go together, got {' and '.join(present)} alone.")
    for name in ("kl_multiplier", "kl_bound"):
        if (number := given[name]) is not None:
            check_finite_positive(name, number)
    check_reduce_fn(reduce_fn)
    arrays = {"log_likelihoods": log_likelihoods, "advantages": advantages} | ({} if kl is None else {"kl": kl})
    log_likelihoods, advantages, *divergences = same_float(**arrays)
    check_rank("log_likelihoods", log_likelihoods)
    check_temperature(temperature, advantages)
    mask = as_mask(where, log_likelihoods, "log_likelihoods")
    advantages = lax.stop_gradient(jnp.where(mask, advantages, 0))
    num_valid = all_sum(mask.astype(jnp.int32), axis_name)
    best = _best(advantages, mask, num_valid, float(top_share), axis_name)
    fixed = lax.stop_gradient(as_float("temperature", temperature)) if not is_concrete(temperature) else temperature
    log_weights = target_log_weights(advantages, temperature=fixed, where=best, axis_name=axis_name)
    weights = jnp.exp(log_weights)
    policy_loss = -all_sum(weights * jnp.where(weights == 0, 0, log_likelihoods), axis_name)
    temperature_loss, divergence = _dual(advantages, best, temperature, temperature_bound, axis_name)
    kl_loss = jnp.zeros_like(policy_loss)
    if divergences:
        mean_kl = mean_where(divergences[0], mask, -1, axis_name)
        multiplier, bound = (jnp.asarray(number, mean_kl.dtype) for number in (kl_multiplier, kl_bound))
        kl_loss = multiplier * (bound - lax.stop_gradient(mean_kl)) + lax.stop_gradient(multiplier) * mean_kl
        kl_loss = jnp.where(num_valid > 0, kl_loss, 0)
    metrics = VmpoMetrics(
        policy_loss=policy_loss,
        temperature_loss=temperature_loss,
        kl_loss=kl_loss,
        log_weights=log_weights,
        weights_kl=divergence,
        effective_sample_size=effective_sample_size(log_weights, axis_name=axis_name),
        num_selected=all_sum(best.astype(jnp.int32), axis_name),
        num_valid=num_valid,
    )
    return reduce_groups(policy_loss + temperature_loss + kl_loss, num_valid > 0, reduce_fn), metrics


def _best(
    advantages: jax.Array, mask: jax.Array, num_valid: jax.Array, top_share: float, axis_name: AxisName
) -> jax.Array:
    """Marks the trajectories of the largest advantages, with all that tie for the last place."""
    everywhere = all_gather(jnp.where(mask, advantages, -jnp.inf), axis_name)
    # A little less than the share: 0.6 of 25 is 15, whatever the product rounds to.
    places = jnp.ceil(top_share * (1 - 1e-6) * num_valid.astype(advantages.dtype)).astype(jnp.int32)
    descending = -jnp.sort(-everywhere, axis=-1)
    last = jnp.take_along_axis(descending, jnp.maximum(places - 1, 0)[..., None], axis=-1)
    return mask & (advantages >= last)


def _dual(
    advantages: jax.Array, best: jax.Array, temperature: ArrayLike, bound: ArrayLike, axis_name: AxisName
) -> tuple[jax.Array, jax.Array]:
    """The loss of the temperature, with its gradient to it, and the divergence of the weights from even ones."""
    eta, epsilon = (jnp.asarray(number, advantages.dtype) for number in (temperature, bound))
    top = all_max(jnp.where(best, advantages, -jnp.inf), axis_name)
    top = jnp.where(top == -jnp.inf, 0, top)
    eta = jnp.broadcast_to(eta, top.shape)
    below = jnp.where(best, advantages - top[..., None], 0)
    # At 0 all but the best have no weight, in the limit and without the slope of a quotient by 0.
    at_zero = (eta == 0)[..., None]
    limit = jnp.where(below < 0, -jnp.inf, 0)
    scaled = jnp.where(at_zero, limit, below / jnp.where(at_zero, 1, eta[..., None]))
    powers = jnp.where(best, jnp.exp(scaled), 0)
    count = jnp.maximum(all_sum(best.astype(advantages.dtype), axis_name), 1)
    total = all_sum(powers, axis_name)
    log_mean = jnp.log(jnp.where(total > 0, total, 1) / count)
    loss = jnp.where(total > 0, eta * (epsilon + log_mean) + top, 0)
    expected = all_sum(jnp.where(powers > 0, powers * scaled, 0), axis_name) / jnp.where(total > 0, total, 1)
    return loss, lax.stop_gradient(jnp.where(total > 0, expected - log_mean, 0))

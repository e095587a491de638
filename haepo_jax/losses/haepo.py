"""The HAEPO loss, and its gradient with respect to the scores in closed form."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import AxisName, all_sum
from haepo_jax.losses._haepo_terms import HaepoMetrics, Settings, Terms, haepo_terms
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups, reduce_slopes


def haepo_loss(
    scores: ArrayLike,
    returns: ArrayLike,
    reference_scores: ArrayLike | None = None,
    *,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    temperature: ArrayLike = 1.0,
    normalization: str = "zscore",
    projection: str = "reverse",
    target: str = "boltzmann",
    target_effective_sample_size: ArrayLike | None = None,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, HaepoMetrics]:
    r"""Computes the HAEPO loss: weighted normalised return, entropy of the weights and soft KL to a reference policy.

    .. math::
        w = \mathrm{softmax}(S / \tau), \qquad
        \ell = \sum_k w_k \left(-\tilde R_k + \beta \log w_k + \lambda (\log w_k - \log w_k^{ref})\right)

    averaged over the groups that have a valid trajectory. The M trajectories of the last axis compete
    with one another; leading axes are independent groups. Gradients flow through `scores` alone. The
    KL term has no gradient while the reference policy equals the trained one.

    With :math:`b = \beta + \lambda` that is, but for a constant, b times the divergence of the weights from a target:

    .. math::
        \ell = b \, KL(w \,\|\, w^*) + const, \qquad
        w^*_k \propto (w_k^{ref})^{\lambda / b} \exp(\tilde R_k / b)

    which is the `reverse` projection of the weights on the target. The `forward` one is

    .. math:: \ell = -\sum_k w^*_k \log w_k = KL(w^* \,\|\, w) + const

    whose slope :math:`(w_k - w^*_k) / \tau` also moves a trajectory that has next to no weight. With
    `target_effective_sample_size` b is not :math:`\beta + \lambda` but what `target_temperature` finds for each group,
    and :math:`\beta : \lambda` is how it is shared between entropy and KL (all of it is entropy's where both are 0).
    The loss is then the same for returns in any unit, but for its own unit under the `reverse` projection without
    `zscore` normalisation.

    Args:
      scores: `[..., M]` scores :math:`S_k`, see `trajectory_scores`: one number a trajectory. Log-probabilities of
        steps `[M, T]` would be read as M groups of T trajectories; `trajectory_log_likelihood` sums them first.
      returns: `[..., M]` returns :math:`R_k`, in the units of the reward.
      reference_scores: `[..., M]` scores of the same trajectories under the reference policy.
      entropy_coef: scalar :math:`\beta`; positive spreads the weights. The target has none below 0: there a
        concrete one is refused, and a traced one read as 0. So with `kl_coef`.
      kl_coef: scalar :math:`\lambda`; positive draws the weights to the reference's. Where it is 0, traced or not,
        the reference adds exactly 0 to value and gradient, whatever it holds.
      temperature: scalar :math:`\tau > 0`.
      normalization: `zscore`, `sum` or `none`, see `normalize_returns`. `sum` refuses returns whose sum is
        not positive; where they are traced it drops the return term of that group and flags it in
        `HaepoMetrics.returns_sum_not_positive`.
      projection: `reverse` or `forward`. `forward` needs a target: traced coefficients that are 0 give the limit, all
        the target on the best return, shared by those that tie for it.
      target: `boltzmann` or, with projection `forward`, `linear`, see `target_log_weights`: a linear target prefers
        what is risky less than an exponential one.
      target_effective_sample_size: scalar share between 0 and 1 of the valid trajectories that the returns' part of
        the target is worth, see `target_temperature`. Equal returns have b = 0: the `reverse` loss of such a group
        has no gradient, and the `forward` one draws the weights to the reference's share of the target alone.
      reduce_fn: what makes a scalar of the losses of the groups, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`. A group without a valid trajectory has the loss 0 and is not `valid`.
      where: `[..., M]` boolean, True for the trajectories that count. A masked trajectory equals one that
        is not there, in value and gradient; a group that is all masked contributes nothing.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`. Every device
        gets the same, global loss; take `lax.pmean` of the gradient of replicated parameters.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64 (`[...]` losses without `reduce_fn`), and `HaepoMetrics`
      for each group.

    Raises:
      ValueError: `kl_coef` is not a concrete 0 and there are no `reference_scores`; `temperature` is not
        positive; `normalization`, `projection` or `target` is unknown, or `target` is `linear` under the `reverse`
        projection; `normalization` is `sum` and the concrete returns do not sum to a positive number; a coefficient
        is an array or NaN; `target_effective_sample_size` is not between 0 and 1; `projection` is `forward` and the
        coefficients are a concrete 0 without it; `reduce_fn` returns no scalar; `axis_name` is not mapped.
      TypeError: `where` is not boolean, `reduce_fn` no function, a coefficient no number, or an array holds no
        real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([0.0, 1.0])
      >>> loss, metrics = haepo_loss(scores, returns, entropy_coef=0.0, kl_coef=0.0)
      >>> print(loss, metrics.normalized_returns)
      -0.5 [-1.  1.]

    Source: HAEPO (arXiv 2508.18884), section 3; the target and its projections: docs/method.md.
    """
    settings = Settings(
        entropy_coef,
        kl_coef,
        temperature,
        normalization,
        projection,
        target,
        target_effective_sample_size,
        where,
        axis_name,
    )
    check_reduce_fn(reduce_fn)
    terms = haepo_terms(scores, returns, reference_scores, settings)
    return reduce_groups(terms.group_losses, terms.metrics.num_valid > 0, reduce_fn), terms.metrics


def haepo_coefficients(
    scores: ArrayLike,
    returns: ArrayLike,
    reference_scores: ArrayLike | None = None,
    *,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    temperature: ArrayLike = 1.0,
    normalization: str = "zscore",
    projection: str = "reverse",
    target: str = "boltzmann",
    target_effective_sample_size: ArrayLike | None = None,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Computes the derivative of `haepo_loss` with respect to the scores, in closed form.

    .. math::
        c_k = \frac{\partial \ell}{\partial S_k} &= \frac{w_k}{\tau} \left(f_k - \sum_j w_j f_j\right),
        \qquad f_k = -\tilde R_k + \beta \log w_k + \lambda (\log w_k - \log w_k^{ref})
        && \text{(reverse)} \\
        c_k &= \frac{w_k - w^*_k}{\tau} && \text{(forward)}

    divided by the number of groups that have a valid trajectory, or as `reduce_fn` weighs them. With a target
    effective sample size :math:`\beta` and :math:`\lambda` are its temperature's shares. With c held constant, the
    surrogate :math:`\sum_k c_k S_k(\theta)` has the gradient of the loss, so that the gradient of a group can be
    accumulated one trajectory at a time, though the softmax couples them all: one pass without a graph
    for the scores, one that adds up :math:`c_k \nabla S_k`. The pieces' gradients are summed, not averaged
    (`optax.MultiSteps(..., use_grad_mean=False)`; docs/method.md shows it).

    Args:
      scores: as for `haepo_loss`, as are all the other arguments.
      returns: `[..., M]`.
      reference_scores: `[..., M]`.
      entropy_coef: scalar.
      kl_coef: scalar.
      temperature: scalar.
      normalization: `zscore`, `sum` or `none`.
      projection: `reverse` or `forward`.
      target: `boltzmann` or `linear`.
      target_effective_sample_size: scalar share, or None.
      reduce_fn: `reduce_fn(losses, where=valid)`; None gives the derivative of each group's own loss.
      where: `[..., M]` boolean.
      axis_name: name of the mapped axis over which M is spread. Each device gets the coefficients of its
        own trajectories. Differentiate the `lax.psum` of the surrogates and take `lax.pmean` of the
        gradient of replicated parameters, as for the loss. (Under `shard_map(..., check_vma=False)` and
        `vmap` that equals the `lax.psum` of the gradients of the local surrogates; with `check_vma=True`
        JAX has summed those already, and a second `psum` would multiply by the number of devices.)

    Returns:
      `[..., M]` coefficients, a constant to the gradient; they sum to 0 in each group, and are 0 where masked.

    Raises:
      ValueError, TypeError, AssertionError: as `haepo_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([0.0, 1.0])
      >>> print(haepo_coefficients(scores, returns, entropy_coef=0.0, kl_coef=0.0))
      [ 0.375 -0.375]

    Source: differentiate the loss of HAEPO (arXiv 2508.18884); the terms in d log w cancel as sum_k dw_k = 0.
    """
    settings = Settings(
        entropy_coef,
        kl_coef,
        temperature,
        normalization,
        projection,
        target,
        target_effective_sample_size,
        where,
        axis_name,
    )
    check_reduce_fn(reduce_fn)
    terms = haepo_terms(scores, returns, reference_scores, settings)
    log_weights = terms.metrics.log_weights
    if projection == "forward":
        slopes = (jnp.exp(log_weights) - jnp.exp(terms.target_log_weights)) / jnp.asarray(
            temperature, log_weights.dtype
        )
    else:
        slopes = _reverse_slopes(terms, temperature, axis_name)
    return lax.stop_gradient(reduce_slopes(slopes, terms.group_losses, terms.metrics.num_valid > 0, reduce_fn))


def _reverse_slopes(terms: Terms, temperature: ArrayLike, axis_name: AxisName) -> jax.Array:
    """Derivatives `[..., M]` of each group's loss under the reverse projection."""
    log_weights = terms.metrics.log_weights
    active = jnp.exp(log_weights) != 0
    safe = jnp.where(active, log_weights, 0)
    weights = jnp.where(active, jnp.exp(safe), 0)
    values = -terms.metrics.normalized_returns + _over_trajectories(terms.entropy_coef) * safe
    if terms.penalty_log_weights is not None:
        safe_reference = jnp.where(active, terms.penalty_log_weights, 0)
        values += _over_trajectories(terms.kl_coef) * (safe - safe_reference)
    centred = values - all_sum(weights * values, axis_name)[..., None]
    return jnp.where(active, weights / jnp.asarray(temperature, log_weights.dtype) * centred, 0)


def _over_trajectories(coef: jax.Array) -> jax.Array:
    """A coefficient that is a scalar or `[...]`, against `[..., M]`."""
    return coef[..., None] if coef.ndim else coef

"""The family of losses in the ratio of policy to behaviour policy: GRPO, DAPO, GSPO, CISPO, GMPO, SAPO, VESPO."""

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import AxisName
from haepo_jax.losses._ratio_terms import PolicyRatioMetrics, RatioSettings, ratio_terms
from haepo_jax.losses.reductions import ReduceFn, check_reduce_fn, mean_over_groups, reduce_groups


def policy_ratio_loss(
    log_probs: ArrayLike,
    behaviour_log_probs: ArrayLike,
    advantages: ArrayLike,
    reference_log_probs: ArrayLike | None = None,
    *,
    level: str = "token",
    shape: str = "clip",
    clip_low: ArrayLike | None = None,
    clip_high: ArrayLike | None = None,
    aggregation: str = "token_mean",
    temperatures: Sequence[ArrayLike] = (1.0, 1.05),
    kernels: Sequence[Sequence[ArrayLike]] = ((2.0, 3.0), (3.0, 2.0)),
    kl_coef: ArrayLike = 0.0,
    importance_weights: ArrayLike | None = None,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    trajectory_of_step: ArrayLike | None = None,
    max_steps: int | None = None,
    divisor: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, PolicyRatioMetrics]:
    r"""Computes a loss that pushes steps by their trajectory's advantage, as far as the policy ratio lets them go.

    With the log-ratio of a step :math:`d_{kt} = \log \pi_\theta - \log \pi_\beta`, the ratio is

    ================ ============================================== ==================================================
    level            ratio :math:`r_{kt}`                           in
    ================ ============================================== ==================================================
    `token`          :math:`\exp d_{kt}`                            PPO, GRPO, DAPO, CISPO, SAPO
    `sequence`       :math:`\exp(mean_t\, d_{kt})`, then the shape  GSPO; under `vespo`, :math:`\exp \sum_t d_{kt}`
    `geometric_mean` :math:`\exp(mean_t\, c_{kt})`, c being the d   GMPO: like `sequence`, but the clip holds steps
                     of steps after the clip
    ================ ============================================== ==================================================

    and what a step adds to the loss, sg being a constant to the gradient, is

    ======== ============================================================ ============================================
    shape    loss of a step :math:`\ell_{kt}`                             in
    ======== ============================================================ ============================================
    `clip`   :math:`-\min(r A, \mathrm{clip}(r, 1 - low, 1 + high) A)`    PPO, GRPO, DAPO, GSPO, GMPO
    `cispo`  :math:`-sg(\mathrm{clip}(r, 1 - low, 1 + high)) A \log \pi`  CISPO: a bounded weight, no step left out
    `sapo`   :math:`-\sigma(\tau (r - 1)) (4 / \tau) A`                   SAPO: slope 1 at r = 1, fading on both sides
    `vespo`  :math:`-sg(r^a e^{b (1 - r)}) A \log \pi`                    VESPO: a kernel that is 1 at r = 1
    `none`   :math:`-r A`                                                 the unbounded surrogate
    ======== ============================================================ ============================================

    All but `vespo`, which has the level `sequence`, go with the levels `token` and `sequence`; `geometric_mean` goes
    with `clip` and `none`. The losses of a group's steps are aggregated as in `grpo_loss` (`sequence_mean`,
    `token_mean`, `constant`), each times its importance weight, and a penalty is added as there. Under the levels
    `sequence` and `geometric_mean` all steps of a trajectory have its loss: `sequence_mean` is the mean over
    trajectories, under the others a trajectory counts by its length. `losses.presets` has the settings of each method.

    Where a group is a prompt, `token_mean` counts steps within it and then all prompts alike. To count all steps of
    the batch alike, as TRL and verl do, lay the groups one after the other: `[G, M, T]` as `[G M, T]`.

    Args:
      log_probs: `[..., M, T]` log-probabilities of the actions taken, in nats.
      behaviour_log_probs: `[..., M, T]` those under the policy that sampled; a constant to the gradient.
      advantages: `[..., M]` advantages :math:`A_k`; a constant to the gradient.
      reference_log_probs: `[..., M, T]` those under the reference policy; a constant to the gradient.
      level: `token`, `sequence` or `geometric_mean`.
      shape: `clip`, `cispo`, `sapo`, `vespo` or `none`.
      clip_low: scalar distance from 1, positive, of the lower bound; of `clip` and `cispo` alone. 1 is no bound.
      clip_high: that of the upper bound; inf is no bound.
      aggregation: `sequence_mean`, `token_mean` or `constant`.
      temperatures: :math:`\tau > 0` of `sapo`, for positive advantages and for others.
      kernels: :math:`(a, b)` of `vespo`, both positive, for advantages that are not negative and for others.
      kl_coef: scalar; positive draws the policy to the reference, see `grpo_loss`.
      importance_weights: `[..., M, T]` weights of the steps, see `importance_weights`; a constant to the gradient.
        They weigh the losses and do not enter the divisor. `vespo` needs none: give it the sampler's own
        log-probabilities as those of the behaviour policy.
      reduce_fn: what makes a scalar of the losses of the groups, `reduce_fn(losses, where=valid)`, such as `jnp.sum`;
        None leaves them as they are, `[...]`.
      where: `[..., M, T]` boolean, True for the steps that count. A trajectory without one equals one that is
        not there, in value and gradient; a group without one contributes nothing.
      trajectory_of_step: `[..., M, T]` integers, where trajectories are packed, see `grpo_loss`.
      max_steps: the most steps of a trajectory, T of `constant`, a whole number; by default the length of the time
        axis.
      divisor: what the sum over a group is divided by, a positive scalar or `[...]`; by default its own number of
        trajectories (`sequence_mean`), of steps (`token_mean`), or of trajectories times T (`constant`). A group in
        pieces gives each piece that of the whole group; the pieces' losses and gradients then add up to the group's.
        So do those of several groups with `reduce_fn=jnp.sum`, or None; their mean would count, in each piece, the
        groups that have a step there.
      axis_name: name of the mapped axis over which M is spread, under `shard_map` or `vmap`. Every device gets the
        same, global loss; take `lax.pmean` of the gradient of replicated parameters.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64 (`[...]` losses without `reduce_fn`), and
      `PolicyRatioMetrics` for each group.

    Raises:
      ValueError: an unknown `level`, `shape` or `aggregation`, or two that do not go together; a clip that the shape
        needs is missing, or one is given that it does not have; a number is an array, or concrete and not positive;
        `kl_coef` is not a concrete 0 and there are no `reference_log_probs`; `log_probs` has less than two axes;
        `trajectory_of_step` is concrete and has a step of no trajectory; `max_steps` is no whole number of at least 1;
        `reduce_fn` returns no scalar; `axis_name` is not mapped.
      TypeError: `where` is not boolean, `trajectory_of_step` holds no integers, `reduce_fn` is no function, or an
        array holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs, behaviour = jnp.log(jnp.array([[0.9, 0.4], [0.2, 0.2]])), jnp.log(jnp.full((2, 2), 0.4))
      >>> arrays = log_probs, behaviour, jnp.array([1.0, -1.0])
      >>> print(policy_ratio_loss(*arrays, clip_low=0.2, clip_high=0.28)[0].round(4))  # 1.28, 1; 0.8, 0.8
      -0.17
      >>> print(policy_ratio_loss(*arrays, level="sequence", clip_low=0.2, clip_high=0.6)[0].round(4))  # 1.5; 0.8
      -0.35

    Source: GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783), DAPO (2503.14476), GSPO (2507.18071), CISPO (MiniMax-M1,
    2506.13585), GMPO (2507.20673), SAPO (2511.20347), VESPO (2602.10693). TRL has all (GMPO among
    its experiments), verl all but VESPO.
    """
    check_reduce_fn(reduce_fn)
    settings = RatioSettings(
        level=level,
        shape=shape,
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation=aggregation,
        kl_coef=kl_coef,
        temperatures=temperatures,
        kernels=kernels,
        importance_weights=importance_weights,
        where=where,
        trajectory_of_step=trajectory_of_step,
        max_steps=max_steps,
        divisor=divisor,
        axis_name=axis_name,
    )
    terms = ratio_terms(log_probs, behaviour_log_probs, advantages, reference_log_probs, settings)
    return reduce_groups(terms.group_losses, terms.metrics.num_valid > 0, reduce_fn), terms.metrics

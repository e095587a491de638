"""The HAEPO loss of segments: parts of trajectories that compete, each by a return of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    AxisName,
    as_float,
    check_coefficient,
    check_reference,
    check_same_shape,
    same_float,
)
from haepo_jax.losses._haepo_terms import HaepoMetrics
from haepo_jax.losses.haepo import haepo_loss
from haepo_jax.losses.reductions import ReduceFn, mean_over_groups, weigh_groups
from haepo_jax.losses.segments import (
    group_segments,
    segment_lengths,
    segment_log_likelihoods,
    segment_returns,
    take_starts,
)
from haepo_jax.losses.weights import trajectory_scores


def haepo_segment_loss(
    log_probs: ArrayLike,
    rewards: ArrayLike,
    values: ArrayLike | None = None,
    next_values: ArrayLike | None = None,
    *,
    segment_length: int,
    entropy_coef: ArrayLike,
    kl_coef: ArrayLike,
    behaviour_log_probs: ArrayLike | None = None,
    reference_log_probs: ArrayLike | None = None,
    terminated: ArrayLike | None = None,
    done: ArrayLike | None = None,
    discount: ArrayLike = 1.0,
    gae_lambda: ArrayLike = 0.0,
    kind: str = "sum",
    group_by: str = "minibatch",
    start_states: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    normalization: str = "zscore",
    projection: str = "reverse",
    target_effective_sample_size: ArrayLike | None = None,
    reduce_fn: ReduceFn | None = mean_over_groups,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, HaepoMetrics]:
    r"""Computes the HAEPO loss of segments of h steps, which compete in the place of whole trajectories.

    A segment's score is made of its own log-likelihood (`segment_log_likelihoods`), its return is what came in it
    and, with values, how much better that is than expected (`segment_returns`); `group_segments` says which compete.
    One segment a row, h >= T, without values is `haepo_loss` of the rows' log-likelihoods and returns, to the last
    bit. With h = 1 and values it is an actor-critic whose advantages have self-normalised weights. Gradients flow
    through `log_probs` alone: values are learnt beside, by a loss of their own.

    Args:
      log_probs: `[..., M, T]` log-probabilities of the actions taken, in nats, under the policy that is trained.
      rewards: `[..., M, T]`.
      values: `[..., M, T]` value of the observation acted upon; None for returns without a critic.
      next_values: `[..., M, T]` value of the observation that the step led to.
      segment_length: h.
      entropy_coef: scalar, as for `haepo_loss`; so are the other arguments that are not named here.
      kl_coef: scalar.
      behaviour_log_probs: `[..., M, T]` log-probabilities under the policy that sampled; needed for the score
        `log_ratio`.
      reference_log_probs: `[..., M, T]` those under the reference policy.
      terminated: `[..., M, T]` boolean, True where the task itself ended the episode; needed with values.
      done: `[..., M, T]` boolean, True where an episode ended, or was cut at a time limit, and another one begins.
        Without it each row is one episode.
      discount: scalar, see `segment_returns`.
      gae_lambda: scalar, see `segment_returns`.
      kind: score of a segment: `sum`, `mean` or `log_ratio`, see `trajectory_scores`.
      group_by: `minibatch`, `time` or `start_state`, see `group_segments`.
      start_states: `[..., M, T]` integers, equal where states are (`label_states`); needed to group by them, and read
        at the first step of each segment.
      temperature: scalar.
      normalization: `zscore`, `sum` or `none`, within each group.
      projection: `reverse` or `forward`.
      target_effective_sample_size: scalar share, or None.
      reduce_fn: as for `haepo_loss`. `mean_over_groups` weighs the groups of `start_state`, which differ in size, by
        their segments.
      where: `[..., M, T]` boolean, True for the steps that count; masked ones equal steps that are not there.
      axis_name: name of the mapped axis over which M is spread; not with `start_state`.

    Returns:
      `(loss, metrics)`: the scalar loss, float32 or float64, and `HaepoMetrics` for each group as `group_segments`
      lays them out.

    Raises:
      ValueError: `start_state` over an axis; or as of `haepo_loss` and the functions named above.
      TypeError, AssertionError: as of these.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs = jnp.log(jnp.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]))
      >>> rewards = jnp.array([[0.0, 0.0, 0.0, 4.0], [1.0, 0.0, 0.0, 0.0]])
      >>> options = {"entropy_coef": 0.1, "kl_coef": 0.0, "group_by": "time"}
      >>> slopes = jax.grad(lambda x: haepo_segment_loss(x, rewards, segment_length=2, **options)[0])(log_probs)
      >>> print(slopes)  # of the first halves the second row's was better, of the second ones the first row's
      [[ 0.25  0.25 -0.25 -0.25]
       [-0.25 -0.25  0.25  0.25]]

    Source: HAEPO (arXiv 2508.18884), section 3, for trajectories; segments are this project's, see docs/method.md.
    """
    if group_by == "start_state" and axis_name is not None:
        raise ValueError("group_by 'start_state' compares all segments, so that axis_name must be None.")

    def cut(function: Callable[..., jax.Array], *steps: ArrayLike | None, **more: Any) -> jax.Array:
        return function(*steps, segment_length=segment_length, done=done, where=where, **more)

    # What the functions below would name by their own arguments.
    if kind == "log_ratio" and behaviour_log_probs is None:
        raise ValueError("kind 'log_ratio' needs behaviour_log_probs, those of the policy that sampled.")
    check_coefficient("kl_coef", kl_coef)
    check_reference(kl_coef, "reference_log_probs", reference_log_probs)
    optional = {"behaviour_log_probs": behaviour_log_probs, "reference_log_probs": reference_log_probs}
    given = {name: array for name, array in optional.items() if array is not None}
    log_probs, rewards, *others = same_float(log_probs=log_probs, rewards=rewards, **given)
    if log_probs.ndim < 2:
        raise ValueError(f"log_probs must have an axis of rows and one of steps, got shape {log_probs.shape}.")
    if start_states is not None:
        check_same_shape(log_probs=log_probs, start_states=as_float("start_states", start_states))
    more = {"terminated": terminated, "discount": discount, "gae_lambda": gae_lambda}
    segments = {
        "log_likelihoods": cut(segment_log_likelihoods, log_probs),
        "returns": cut(segment_returns, rewards, values, next_values, **more),
        "lengths": cut(segment_lengths, log_probs),
    }
    segments |= {name: cut(segment_log_likelihoods, array) for name, array in zip(given, others, strict=True)}
    states = None if start_states is None else cut(take_starts, start_states)
    grouped, competes = group_segments(segments, segments["lengths"] > 0, group_by=group_by, start_states=states)

    def score(log_likelihoods: jax.Array) -> jax.Array:
        behaviour = grouped.get("behaviour_log_probs")
        return trajectory_scores(
            log_likelihoods, kind=kind, lengths=grouped["lengths"], behaviour_log_likelihoods=behaviour
        )

    reference = grouped.get("reference_log_probs")
    if group_by == "start_state" and reduce_fn is mean_over_groups:
        reduce_fn = weigh_groups(jnp.sum(competes, axis=-1))
    return haepo_loss(
        score(grouped["log_likelihoods"]),
        grouped["returns"],
        None if reference is None else score(reference),
        entropy_coef=entropy_coef,
        kl_coef=kl_coef,
        temperature=temperature,
        normalization=normalization,
        projection=projection,
        target_effective_sample_size=target_effective_sample_size,
        reduce_fn=reduce_fn,
        where=competes,
        axis_name=axis_name,
    )

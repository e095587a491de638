"""What is learnt from of the steps that environments have played: single steps, or blocks whose segments compete."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.losses import generalized_advantages, label_states, segment_returns, take_starts
from haepo_jax.methods import Blocks, Samples, SegmentPlan
from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.rollouts.segments import Segment


class Rows(NamedTuple):
    """N rows of S steps."""

    observations: jax.Array
    """`[N, S, *O]`."""
    next_observations: jax.Array | None
    """`[N, S, *O]`, after the action; None where no value function sees them."""
    actions: jax.Array
    """`[N, S]` or `[N, S, A]`."""
    log_probs: jax.Array
    """`[N, S]` under the policy that played them."""
    terminated: jax.Array | None
    """`[N, S]` boolean, the task itself ended the episode here; None where no value function asks."""
    done: jax.Array | None
    """`[N, S]` boolean, an episode ended here or was cut, and another follows; None where a row is one episode."""
    where: jax.Array
    """`[N, S]` boolean, True for the steps of episodes."""


class Judged(NamedTuple):
    """What networks make of N rows of S steps before an update, each `[N, S]`."""

    rewards: jax.Array
    """Those that are learnt from."""
    values: jax.Array | None
    """Of the observations; None without a value function."""
    next_values: jax.Array | None
    """Of the next observations; None likewise."""
    reference_log_probs: jax.Array | None
    """Of the actions under the reference policy; None without one."""


def rows_of(batch: Segment | Trajectories) -> Rows:
    """Returns the steps of environments that carry on, or of whole episodes."""
    return Rows(
        batch.observations,
        batch.next_observations,
        batch.actions,
        batch.log_probs,
        batch.terminated,
        batch.done if isinstance(batch, Segment) else None,
        batch.where if isinstance(batch, Segment) else batch.mask,
    )


def make_samples(rows: Rows, judged: Judged, discount: Any, gae_lambda: Any) -> Samples:
    """Makes single steps `[N, S]` with generalised advantages, of a method with a value function."""
    values = judged.values
    assert values is not None
    advantages = _advantages(rows, judged, discount, gae_lambda)
    return Samples(rows.log_probs, values, advantages, advantages + values)


def make_blocks(rows: Rows, judged: Judged, plan: SegmentPlan, discount: Any, gae_lambda: Any) -> Blocks:
    """Makes blocks `[N, n, h]` of steps, and `[N, n, p]` of segments."""
    assert plan.length is not None
    length = plan.length
    returns = segment_returns(
        judged.rewards,
        judged.values,
        judged.next_values,
        segment_length=length,
        terminated=rows.terminated,
        done=rows.done,
        discount=discount,
        gae_lambda=gae_lambda,
        where=rows.where,
    )
    values = targets = states = None
    if judged.values is not None:
        values = jnp.where(rows.where, judged.values, 0)
        targets = _advantages(rows, judged, discount, gae_lambda) + values
    if plan.by_state:
        number, steps = rows.log_probs.shape
        labels = label_states(rows.observations.reshape(number * steps, -1)).reshape(number, steps)
        states = take_starts(labels, segment_length=length, done=rows.done, where=rows.where)
    log_probs, where, done, values, targets, reference = cut_into_blocks(
        (rows.log_probs, rows.where, rows.done, values, targets, judged.reference_log_probs), plan
    )
    return Blocks(log_probs, returns, where, done, values, targets, reference, states)


def cut_into_blocks(steps: Any, plan: SegmentPlan) -> Any:
    """Cuts a tree of `[N, S, ...]` into blocks `[N, n, h, ...]`, the last one filled up with zeros."""

    def cut(leaf: jax.Array) -> jax.Array:
        length = min(plan.length or 1, leaf.shape[1])
        missing = -leaf.shape[1] % length
        padded = jnp.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2)) if missing else leaf
        return padded.reshape(leaf.shape[0], -1, length, *leaf.shape[2:])

    return jax.tree.map(cut, steps)


def in_units(samples: Any, plan: SegmentPlan) -> Any:
    """Brings a tree of `[N, n, ...]` to units that a minibatch takes some of, along the leading axis.

    A unit is a single step or a block, `[N n, ...]`, or all blocks of a time, `[n, N, ...]`.
    """
    if plan.length is not None and plan.by_time:
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), samples)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), samples)


def cut_into_units(steps: Any, plan: SegmentPlan) -> Any:
    """Brings a tree of `[N, S, ...]` to the same units."""
    return in_units(steps if plan.length is None else cut_into_blocks(steps, plan), plan)


def _advantages(rows: Rows, judged: Judged, discount: Any, gae_lambda: Any) -> jax.Array:
    """Computes generalised advantages of steps `[N, S]`; anything where a row has none."""
    rewards, values, next_values, done = judged.rewards, judged.values, judged.next_values, rows.done
    assert values is not None
    assert next_values is not None
    assert rows.terminated is not None
    if done is None:  # a row is one episode, which ends where its steps do
        done = ~jnp.pad(rows.where[:, 1:], ((0, 0), (0, 1)))
        rewards, values, next_values = (jnp.where(rows.where, x, 0) for x in (rewards, values, next_values))
    return generalized_advantages(
        rewards,
        values,
        next_values,
        terminated=rows.terminated,
        done=done,
        discount=discount,
        gae_lambda=gae_lambda,
    )

"""Segments: rows of steps cut into pieces of h, each with a return of its own, so that pieces can compete.

Rows `[..., T]` become segments `[..., n, p]`: n = ceil(T / h) blocks of h steps, the last one shorter where h does not
divide T. A row that is one episode has one segment in each block (p = 1). A row in which episodes follow one another
is cut where they end too, so that a block may hold several segments, and each stands at the place of its first step
(p = h); the other places hold 0.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import (
    as_flags,
    as_float,
    as_mask,
    check_choice,
    check_coefficient,
    check_count,
    check_rank,
    check_same_shape,
    same_float,
    start_of_loop,
)
from haepo_jax.losses.advantages import generalized_advantages
from haepo_jax.losses.returns import trajectory_returns

GROUPINGS = ("minibatch", "time", "start_state")
"""Which segments compete with one another."""
_SORTED_AT_ONCE = 16
"""Numbers of a state: a sort by hundreds takes minutes to compile."""


def segment_log_likelihoods(
    log_probs: ArrayLike, *, segment_length: int, done: ArrayLike | None = None, where: ArrayLike | None = None
) -> jax.Array:
    r"""Computes the log-likelihood of each segment: the sum of its own steps' log-probabilities.

    As `trajectory_log_likelihood`, in float32 or wider, and to the last bit equal to it where one segment holds the
    whole row.

    Args:
      log_probs: `[..., T]` log-probability of the action taken at each step, in nats.
      segment_length: h, the most steps of a segment.
      done: `[..., T]` boolean, True at a step after which an episode ended (terminated or cut) and another one
        begins. Without it each row is one episode.
      where: `[..., T]` boolean, True for the steps that count. A masked step adds exactly 0 to the value and gets a
        gradient of exactly 0, whatever it holds. With `done` it also ends a segment; without, the steps that count
        are the first ones of a row.

    Returns:
      `[..., n, p]` log-likelihoods in nats, float32 or float64; 0 where there is no segment.

    Raises:
      ValueError: `log_probs` is a scalar, or `segment_length` no whole number of at least 1.
      TypeError: `where` is not boolean, or an array holds no real numbers.
      AssertionError: arrays of different shapes; nothing broadcasts.

    Example:
      >>> import jax.numpy as jnp
      >>> log_probs = jnp.array([-1.0, -2.0, -4.0, -8.0, -16.0])
      >>> print(segment_log_likelihoods(log_probs, segment_length=2)[:, 0])
      [ -3. -12. -16.]
      >>> done = jnp.array([True, False, False, False, False])
      >>> print(segment_log_likelihoods(log_probs, segment_length=2, done=done))
      [[ -1.  -2.]
       [-12.   0.]
       [-16.   0.]]

    Source: the log-likelihood of HAEPO (arXiv 2508.18884), section 3, of a part of a trajectory.
    """
    log_probs = as_float("log_probs", log_probs)
    cut = _cut("log_probs", log_probs, segment_length, done, where)
    return _sum_over_segments(cut, _blocks(log_probs, cut.length))


def segment_lengths(
    like: ArrayLike, *, segment_length: int, done: ArrayLike | None = None, where: ArrayLike | None = None
) -> jax.Array:
    """Counts the steps of each segment, which is how to see where there is one.

    Args:
      like: `[..., T]` numbers of the steps, such as rewards, of which only the shape counts.
      segment_length: h, as for `segment_log_likelihoods`.
      done: `[..., T]` boolean.
      where: `[..., T]` boolean.

    Returns:
      `[..., n, p]` int32; 0 where there is no segment.

    Raises:
      ValueError, TypeError, AssertionError: as of `segment_log_likelihoods`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(segment_lengths(jnp.ones(5), segment_length=2)[:, 0])
      [2 2 1]
    """
    cut = _cut("like", as_float("like", like), segment_length, done, where)
    return _sum_over_segments(cut, cut.mask.astype(jnp.int32))


def segment_returns(
    rewards: ArrayLike,
    values: ArrayLike | None = None,
    next_values: ArrayLike | None = None,
    *,
    segment_length: int,
    terminated: ArrayLike | None = None,
    done: ArrayLike | None = None,
    discount: ArrayLike = 1.0,
    gae_lambda: ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Computes the return of each segment: what came in it and, with values, how much better that is than expected.

    .. math::
        \sum_{i < h} \gamma^i r_i \qquad\text{or, with values,}\qquad
        \sum_{i < h} \gamma^i r_i + \gamma^h G_h - V(s_0), \qquad
        G_h = V(s_h) + \lambda A^{\lambda}_h

    where h is the segment's own number of steps and :math:`A^{\lambda}_h` the generalised advantage of the step after
    it: :math:`\lambda` = 0 takes the value of the state that the segment leads to, 1 what came in the rest of the row
    and the value at its end. Segments of one step have the generalised advantages of `generalized_advantages`, but for
    rounding. Nothing follows a segment in which the task itself ended the episode; one that is cut
    at a time limit counts the value of the observation it was cut at.

    Args:
      rewards: `[..., T]` reward of each step.
      values: `[..., T]` value :math:`V(s_t)` of the observation acted upon, in the units of the return. None for
        returns without a critic.
      next_values: `[..., T]` value of the observation that the step led to: where the episode ended, its final one.
        Ignored where terminated.
      segment_length: h, as for `segment_log_likelihoods`.
      terminated: `[..., T]` boolean, True where the task itself ended the episode; needed with values, and read with
        them alone. Such a step is the last one of its row, or `done`.
      done: `[..., T]` boolean, as for `segment_log_likelihoods`.
      discount: scalar :math:`\gamma`. It begins anew with each segment.
      gae_lambda: scalar :math:`\lambda`; read with values alone.
      where: `[..., T]` boolean, as for `segment_log_likelihoods`.

    Returns:
      `[..., n, p]` returns, float32 or float64, with values a constant to the gradient; 0 where there is no segment.

    Raises:
      ValueError: one of `values`, `next_values` and `terminated` without the others; or as of
        `segment_log_likelihoods` and `generalized_advantages`.
      TypeError, AssertionError: as of `segment_log_likelihoods`.

    Example:
      >>> import jax.numpy as jnp
      >>> rewards, values = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([0.0, 10.0, 20.0, 30.0])
      >>> print(segment_returns(rewards, segment_length=2)[:, 0])
      [ 3. 12.]
      >>> ended = jnp.array([False, False, False, True])
      >>> options = {"segment_length": 2, "terminated": ended}
      >>> print(segment_returns(rewards, values, jnp.append(values[1:], 99.0), **options)[:, 0])
      [23. -8.]

    Source: n-step returns, and TD(lambda) beyond them: Sutton and Barto (2018), chapters 7 and 12; time limits: Pardo
    et al. (2018), "Time limits in reinforcement learning".
    """
    if values is None and next_values is None:
        rewards = as_float("rewards", rewards)
        check_coefficient("discount", discount)
        cut = _cut("rewards", rewards, segment_length, done, where)
        blocks = jnp.where(cut.mask, _blocks(rewards, cut.length), 0)
        if cut.ends is None:
            return trajectory_returns(blocks, discount=discount)[..., None]
        return _returns_to_ends(cut, blocks, jnp.zeros_like(blocks), jnp.zeros_like(blocks), cut.ends, discount)
    if values is None or next_values is None or terminated is None:
        given = {"values": values, "next_values": next_values, "terminated": terminated}
        absent = " and ".join(name for name, value in given.items() if value is None)
        raise ValueError(f"values, next_values and terminated go together, and there is no {absent}.")
    rewards, values, next_values = same_float(rewards=rewards, values=values, next_values=next_values)
    cut, mask = _cut("rewards", rewards, segment_length, done, where), as_mask(where, rewards, "rewards")
    stops = as_flags("terminated", terminated)
    check_same_shape(rewards=rewards, terminated=stops)
    rewards, values, next_values = (jnp.where(mask, array, 0) for array in (rewards, values, next_values))
    ends = stops | _ends(mask, done)
    ahead = generalized_advantages(
        rewards, values, next_values, terminated=stops, done=ends, discount=discount, gae_lambda=gae_lambda
    )
    following = jnp.concatenate([ahead[..., 1:], jnp.zeros_like(ahead[..., :1])], axis=-1)
    next_values += jnp.where(ends, 0, jnp.asarray(gae_lambda, rewards.dtype) * following)
    rewards, values, next_values, stops, ends = (
        _blocks(array, cut.length) for array in (rewards, values, next_values, stops, ends)
    )
    return _returns_to_ends(cut._replace(ends=_at_last(ends)), rewards, values, next_values, stops, discount)


def take_starts(
    steps: ArrayLike, *, segment_length: int, done: ArrayLike | None = None, where: ArrayLike | None = None
) -> jax.Array:
    """Takes of numbers of steps those of the first step of each segment.

    Args:
      steps: `[..., T]` real numbers, whose dtype stays.
      segment_length: h, as for `segment_log_likelihoods`.
      done: `[..., T]` boolean.
      where: `[..., T]` boolean.

    Returns:
      `[..., n, p]`; 0 where there is no segment.

    Raises:
      ValueError, TypeError, AssertionError: as of `segment_log_likelihoods`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(take_starts(jnp.arange(5), segment_length=2)[:, 0])
      [0 2 4]
    """
    cut = _cut("steps", as_float("steps", steps), segment_length, done, where)
    blocks = _blocks(jnp.asarray(steps), cut.length)
    starts = cut.mask if cut.starts is None else cut.starts
    taken = jnp.where(starts, blocks, jnp.zeros_like(blocks))
    return taken[..., :1] if cut.starts is None else taken


def label_states(states: ArrayLike) -> jax.Array:
    """Numbers states, or observations, so that equal ones and no others have equal numbers.

    Args:
      states: `[B, ...]` numbers, compared in their own dtype; two states are equal where all numbers are. 0 equals -0,
        and NaN equals NaN.

    Returns:
      `[B]` int32 from 0 to B - 1, in the order of their first numbers, then of their second ones, and so on.

    Raises:
      ValueError: `states` is a scalar.
      TypeError: it holds no real numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> print(label_states(jnp.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])))
      [1 0 1]
    """
    check_rank("states", as_float("states", states))
    states = jnp.asarray(states)
    number, size = states.shape[0], math.prod(states.shape[1:])
    if not number:
        return jnp.zeros(0, jnp.int32)
    columns = states.reshape(number, size).T
    width = max(min(size, _SORTED_AT_ONCE), 1)
    columns = jnp.pad(columns, ((0, -size % width), (0, 0))).reshape(-1, width, number)

    def tell_apart(labels: jax.Array, more: jax.Array) -> tuple[jax.Array, None]:
        """Divides what has had equal labels by some more columns, `[width, B]`."""
        order = jnp.lexsort((*more[::-1], labels))
        before, after = more[:, order[:-1]], more[:, order[1:]]
        differs = jnp.any((before != after) & ~(jnp.isnan(before) & jnp.isnan(after)), axis=0)
        differs |= labels[order[:-1]] != labels[order[1:]]
        ranks = jnp.cumsum(jnp.pad(differs, (1, 0)), dtype=jnp.int32)
        return labels.at[order].set(ranks, unique_indices=True), None

    return lax.scan(tell_apart, start_of_loop(0, jnp.sum(columns, axis=(0, 1))).astype(jnp.int32), columns)[0]


def group_segments(
    segments: Any, valid: ArrayLike, *, group_by: str = "minibatch", start_states: ArrayLike | None = None
) -> tuple[Any, jax.Array]:
    """Brings numbers of segments to the groups in which they compete.

    ============= =============================================== =====================
    group_by      a group                                         shape `[..., G, K]`
    ============= =============================================== =====================
    `minibatch`   all segments of the M rows                      `[..., M n p]`, no G
    `time`        those that begin in the same block of h steps   `[..., n, M p]`
    `start_state` those that begin in the same state              `[..., M n p, M n p]`
    ============= =============================================== =====================

    Args:
      segments: a tree of arrays `[..., M, n, p]`, as the functions here give them.
      valid: `[..., M, n, p]` boolean, True where there is a segment.
      group_by: `minibatch`, `time` or `start_state`.
      start_states: `[..., M, n, p]` integers, equal where segments begin in the same state (`label_states`), for
        `start_state`. Its groups are as many as there are places for segments, most of them without any: memory grows
        with the square of that number.

    Returns:
      `(segments, where)`, arrays `[..., G, K]`; `where` is True for those that compete.

    Raises:
      ValueError: an unknown `group_by`; `start_state` without `start_states`; `valid` has less than three axes.
      AssertionError: arrays of different shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> returns = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])  # two rows of two segments
      >>> print(group_segments(returns, returns > 0, group_by="time")[0])
      [[1. 3.]
       [2. 4.]]
    """
    check_choice("group_by", group_by, GROUPINGS)
    valid = jnp.asarray(valid)
    if valid.ndim < 3:
        raise ValueError(
            f"valid must have axes for rows, blocks and segments [..., M, n, p], got shape {valid.shape}."
        )
    for leaf in jax.tree.leaves(segments):
        check_same_shape(valid=valid, segments=jnp.asarray(leaf))
    *leading, rows, blocks, places = valid.shape

    def flatten(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(*leading, rows * blocks * places)

    if group_by == "time":

        def by_block(leaf: jax.Array) -> jax.Array:
            return jnp.moveaxis(leaf, -2, -3).reshape(*leading, blocks, rows * places)

        return jax.tree.map(by_block, segments), by_block(valid)
    if group_by == "minibatch":
        return jax.tree.map(flatten, segments), flatten(valid)
    if start_states is None:
        raise ValueError("group_by 'start_state' needs start_states, equal numbers where segments begin alike.")
    states = jnp.asarray(start_states)
    check_same_shape(valid=valid, start_states=states)
    states, competes = flatten(states), flatten(valid)
    alike = (states[..., :, None] == states[..., None, :]) & competes[..., :, None] & competes[..., None, :]
    # The group of a state stands in the row of its first segment; the rows of the others are empty.
    count = competes.shape[-1]
    leads = competes  # of nothing there is no first
    if count:
        leads = jnp.argmax(alike, axis=-1) == jnp.broadcast_to(jnp.arange(count), competes.shape)
    where = alike & leads[..., :, None]
    spread = jax.tree.map(lambda leaf: jnp.broadcast_to(flatten(leaf)[..., None, :], where.shape), segments)
    return spread, where


class _Cut(NamedTuple):
    """Where segments lie in blocks of h steps."""

    length: int
    """h, no more than T."""
    mask: jax.Array
    """`[..., n, h]` boolean, True for the steps that count."""
    ends: jax.Array | None
    """`[..., n, h]` boolean, True at the last step of a segment; None where each block is one."""
    starts: jax.Array | None
    """`[..., n, h]` boolean, True at its first one; None likewise."""


def _cut(name: str, like: jax.Array, segment_length: int, done: ArrayLike | None, where: ArrayLike | None) -> _Cut:
    check_rank(name, like)
    length = min(check_count("segment_length", segment_length), max(like.shape[-1], 1))
    mask = as_mask(where, like, name)
    blocks = _blocks(mask, length)
    if done is None:
        return _Cut(length, blocks, None, None)
    check_same_shape(**{name: like, "done": as_flags("done", done)})
    ends = _at_last(_blocks(_ends(mask, done), length))
    follows = jnp.concatenate([jnp.zeros_like(ends[..., :1]), ~ends[..., :-1] & blocks[..., :-1]], axis=-1)
    return _Cut(length, blocks, ends, blocks & ~follows)


def _ends(mask: jax.Array, done: ArrayLike | None) -> jax.Array:
    """Marks steps `[..., T]` that no step of the same episode follows, in the row."""
    ends = ~jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], axis=-1)
    return ends if done is None else ends | as_flags("done", done)


def _at_last(ends: jax.Array) -> jax.Array:
    """Marks the last step of each block besides."""
    return jnp.concatenate([ends[..., :-1], jnp.ones_like(ends[..., -1:])], axis=-1)


def _blocks(rows: jax.Array, length: int) -> jax.Array:
    """Cuts `[..., T]` into `[..., n, h]`, the last block filled up with zeros."""
    missing = -rows.shape[-1] % length
    padded = jnp.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)]) if missing else rows
    return padded.reshape(*rows.shape[:-1], padded.shape[-1] // length, length)  # not -1: there may be no rows


def _sum_over_segments(cut: _Cut, blocks: jax.Array) -> jax.Array:
    """Sums numbers of steps `[..., n, h]` to those of segments, `[..., n, p]`."""
    blocks = jnp.where(cut.mask, blocks, 0)
    if cut.ends is None or cut.starts is None:
        return jnp.sum(blocks, axis=-1, dtype=blocks.dtype, keepdims=True)
    goes_on = ~cut.ends

    def join(later: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return later[0] & now[0], now[1] + jnp.where(now[0], later[1], 0)

    _, sums = lax.associative_scan(join, (goes_on, blocks), reverse=True, axis=blocks.ndim - 1)
    return jnp.where(cut.starts, sums, 0)


def _returns_to_ends(
    cut: _Cut, rewards: jax.Array, values: jax.Array, next_values: jax.Array, stops: jax.Array, discount: ArrayLike
) -> jax.Array:
    """Computes returns of segments, `[..., n, p]`, over the value at their start and with the one at their end.

    Arrays are `[..., n, h]`. The values in between cancel, so that they are left out.
    """
    assert cut.ends is not None
    starts = jnp.pad(cut.ends[..., :-1], [(0, 0)] * (cut.ends.ndim - 1) + [(1, 0)], constant_values=True)
    if cut.starts is not None:
        starts = cut.starts
    found = generalized_advantages(
        rewards,
        jnp.where(starts, values, 0),
        jnp.where(cut.ends, next_values, 0),
        terminated=stops,
        done=cut.ends,
        discount=discount,
        gae_lambda=1.0,
    )
    found = jnp.where(starts & cut.mask, found, 0)
    return found[..., :1] if cut.starts is None else found

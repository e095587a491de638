"""The log-probabilities of a batch's actions under other parameters, at a cost that follows its longest episode.

Time is cut into pieces. Those after the end of the longest episode are left out, and the gradient goes piece by
piece, computing each again, so that its memory is that of one piece.
"""

import functools

import jax
import jax.numpy as jnp

from haepo_jax.algorithms import replay_in_order
from haepo_jax.algorithms.gradient_accumulator import GradientSum, Partial, Piece
from haepo_jax.networks import Policy, unroll_log_probs
from haepo_jax.parallel import max_over_members
from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.types import Params

ROWS = 128
"""About the steps x episodes of a piece, where nothing is said: what a policy does with them fits a core's cache."""


def log_probs(
    policy: Policy,
    params: Params,
    trajectories: Trajectories,
    *,
    fresh: jax.Array | bool = False,
    num_steps: jax.Array | None = None,
    resets: jax.Array | None = None,
    rows: int = ROWS,
) -> jax.Array:
    """The log-probability of each action under these parameters.

    Args:
      policy: whose they are.
      params: where to take them.
      trajectories: M episodes, or M lanes of them.
      fresh: whether these parameters have played the episodes. What they had then is not computed again; its
        gradient is.
      num_steps: int32, after which all are masked; by default those of the longest episode.
      resets: `[M, T]` boolean, True where a policy that remembers begins anew; by default where a step is masked.
      rows: about the steps x episodes of a piece.

    Returns:
      `[M, T]` in nats; anything where masked.
    """
    if num_steps is None:
        num_steps = jnp.max(jnp.sum(trajectories.mask, axis=-1, dtype=jnp.int32))
    longest = max_over_members(num_steps)
    if policy.recurrence is not None:
        whole = _as_piece(policy, trajectories, resets)
        least_steps = max(1, rows // trajectories.mask.shape[0])
        return replay_in_order.log_probs(
            policy, params, whole, trajectories.log_probs, fresh=fresh, longest=longest, least_steps=least_steps
        )
    batch = (trajectories.observations, trajectories.actions, trajectories.log_probs)
    return _log_probs(policy, rows, params, *batch, jnp.where(fresh, 0, longest), longest)


def log_probs_at_once(
    policy: Policy,
    params: Params,
    trajectories: Trajectories,
    *,
    fresh: jax.Array | bool = False,
    num_steps: jax.Array | None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    """The same without pieces, for all T steps: what the policy makes of each is kept for the gradient."""
    del fresh, num_steps  # for the gradient's sake all is computed
    whole = _as_piece(policy, trajectories, resets)
    return unroll_log_probs(policy, params, whole.carry, whole.observations, whole.actions, whole.resets)[1]


def _as_piece(policy: Policy, trajectories: Trajectories, resets: jax.Array | None) -> Piece:
    return Piece(
        trajectories.observations,
        trajectories.actions,
        trajectories.resets if resets is None else resets,
        policy.start(trajectories.mask.shape[0]),
    )


class _Pieces:
    """Where each piece of T steps begins. The last one reaches back over steps that it shares with the one before."""

    def __init__(self, rows: int, num_trajectories: int, num_steps: int) -> None:
        self.num_steps = num_steps
        self.size = min(max(1, rows // num_trajectories), num_steps)

    def number(self, longest: jax.Array) -> jax.Array:
        return -(-longest // self.size)

    def take(self, array: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, self._start(i), self.size, axis=1)

    def put(self, array: jax.Array, piece: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(array, piece, self._start(i), axis=1)

    def is_new(self, i: jax.Array) -> jax.Array:
        """`[size]` boolean, False for the steps that the piece before has had."""
        return self._start(i) + jnp.arange(self.size) >= i * self.size

    def _start(self, i: jax.Array) -> jax.Array:
        return jnp.minimum(i * self.size, self.num_steps - self.size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_probs(
    policy: Policy,
    rows: int,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    known: jax.Array,
    steps: jax.Array,
    longest: jax.Array,
) -> jax.Array:
    """`known`, with the first `steps` computed; the gradient is that of the first `longest`."""
    pieces = _Pieces(rows, *observations.shape[:2])

    def piece(i: jax.Array, result: jax.Array) -> jax.Array:
        taken, done = pieces.take(observations, i), pieces.take(actions, i)
        _, computed = unroll_log_probs(policy, params, (), taken, done, None)
        return pieces.put(result, computed, i)

    return jax.lax.fori_loop(0, pieces.number(steps), piece, known)


def _forward(
    policy: Policy, rows: int, params: Params, observations: jax.Array, actions: jax.Array, *others: jax.Array
) -> tuple[jax.Array, tuple]:
    return _log_probs(policy, rows, params, observations, actions, *others), (
        params,
        observations,
        actions,
        others[-1],
    )


def _backward(policy: Policy, rows: int, saved: tuple, slopes: jax.Array) -> tuple:
    params, observations, actions, longest = saved
    constants = (None,) * 5  # none but the parameters has a gradient
    pieces = _Pieces(rows, *observations.shape[:2])

    gradient = GradientSum(policy, params)

    def piece(i: jax.Array, so_far: Partial) -> Partial:
        new = jnp.where(pieces.is_new(i), pieces.take(slopes, i), 0)
        taken = Piece(pieces.take(observations, i), pieces.take(actions, i), None)
        return gradient.plus(so_far, taken, new)[0]

    return gradient.total(jax.lax.fori_loop(0, pieces.number(longest), piece, gradient.zero())), *constants


_log_probs.defvjp(_forward, _backward)

"""The log-probabilities of a batch's actions under other parameters, of a policy that remembers.

Time is cut into pieces as in `replay`. What the policy remembers passes from piece to piece, and is kept where each
begins. The gradient goes from the last piece to the first, computes each again from there, and hands on the slopes by
what was remembered: it is that of one unroll over all of time, in the memory of one piece and the carries.
"""

import functools

import jax
import jax.numpy as jnp

from haepo_jax.algorithms.gradient_accumulator import GradientSum, Partial, Piece
from haepo_jax.networks import Policy, unroll_log_probs
from haepo_jax.networks.recurrent import Carry
from haepo_jax.types import Params

_LEAST_STEPS = 16  # of a piece: so what is kept between two of them is little beside the steps


def log_probs(
    policy: Policy,
    params: Params,
    piece: Piece,
    known: jax.Array,
    *,
    fresh: jax.Array | bool,
    longest: jax.Array,
    least_steps: int,
) -> jax.Array:
    """Computes the log-probability of each action under these parameters.

    Args:
      policy: whose they are.
      params: where to take them. No other argument has a gradient.
      piece: all T steps, with the carry before the first.
      known: `[M, T]`, what the policy that played them had.
      fresh: whether these parameters have played them; then the result is `known`.
      longest: int32, the steps after which all are masked.
      least_steps: of a piece.

    Returns:
      `[M, T]` in nats; anything after the longest.
    """
    return _log_probs(policy, least_steps, params, piece, known, jnp.asarray(fresh), longest)


class _Pieces:
    """Where each piece of T steps begins. The last one may reach beyond the last step, which it then repeats."""

    def __init__(self, num_steps: int, least_steps: int) -> None:
        self.num_steps = num_steps
        self.size = min(max(least_steps, _LEAST_STEPS), num_steps)
        self.most = -(-num_steps // self.size)

    def number(self, longest: jax.Array) -> jax.Array:
        return -(-longest // self.size)

    def take(self, whole: Piece, i: jax.Array, carry: Carry) -> Piece:
        times = jnp.minimum(self._times(i), self.num_steps - 1)
        taken = jax.tree.map(lambda leaf: jnp.take(leaf, times, axis=1), whole._replace(carry=()))
        return taken._replace(carry=carry)

    def take_slopes(self, slopes: jax.Array, i: jax.Array) -> jax.Array:
        taken = jnp.take(slopes, jnp.minimum(self._times(i), self.num_steps - 1), axis=1)
        return jnp.where(self._times(i) < self.num_steps, taken, 0)

    def pad(self, array: jax.Array) -> jax.Array:
        return jnp.pad(array, ((0, 0), (0, self.most * self.size - self.num_steps)))

    def put(self, padded: jax.Array, piece: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(padded, piece, i * self.size, axis=1)

    def _times(self, i: jax.Array) -> jax.Array:
        return i * self.size + jnp.arange(self.size)


def _unroll(
    policy: Policy, least_steps: int, params: Params, whole: Piece, known: jax.Array, longest: jax.Array
) -> tuple[jax.Array, Carry]:
    """Computes the log-probabilities `[M, T]`, and the carries `[P, M, *C]` before each of P pieces."""
    pieces = _Pieces(known.shape[1], least_steps)

    def one_more(i: jax.Array, so_far: tuple[Carry, jax.Array, Carry]) -> tuple[Carry, jax.Array, Carry]:
        carry, result, carries = so_far
        carries = jax.tree.map(lambda every, leaf: every.at[i].set(leaf), carries, carry)
        piece = pieces.take(whole, i, carry)
        carry, computed = unroll_log_probs(policy, params, carry, piece.observations, piece.actions, piece.resets)
        return carry, pieces.put(result, computed, i), carries

    carries = jax.tree.map(lambda leaf: jnp.zeros((pieces.most, *leaf.shape), leaf.dtype), whole.carry)
    start = (whole.carry, pieces.pad(known), carries)
    _, result, carries = jax.lax.fori_loop(0, pieces.number(longest), one_more, start)
    return result[:, : pieces.num_steps], carries


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_probs(
    policy: Policy,
    least_steps: int,
    params: Params,
    whole: Piece,
    known: jax.Array,
    fresh: jax.Array,
    longest: jax.Array,
) -> jax.Array:
    return jax.lax.cond(fresh, lambda: known, lambda: _unroll(policy, least_steps, params, whole, known, longest)[0])


def _forward(
    policy: Policy,
    least_steps: int,
    params: Params,
    whole: Piece,
    known: jax.Array,
    fresh: jax.Array,
    longest: jax.Array,
) -> tuple[jax.Array, tuple]:
    # Of fresh steps too: the carries are needed.
    result, carries = _unroll(policy, least_steps, params, whole, known, longest)
    return jnp.where(fresh, known, result), (params, whole, carries, longest)


def _backward(policy: Policy, least_steps: int, saved: tuple, slopes: jax.Array) -> tuple:
    params, whole, carries, longest = saved
    pieces, gradient = _Pieces(slopes.shape[1], least_steps), GradientSum(policy, params)
    number = pieces.number(longest)

    def one_before(done: jax.Array, so_far: tuple[Partial, Carry]) -> tuple[Partial, Carry]:
        total, carry_slopes = so_far
        i = number - 1 - done
        piece = pieces.take(whole, i, jax.tree.map(lambda every: every[i], carries))
        return gradient.plus(total, piece, pieces.take_slopes(slopes, i), carry_slopes)

    no_slopes = jax.tree.map(jnp.zeros_like, whole.carry)
    total, _ = jax.lax.fori_loop(0, number, one_before, (gradient.zero(), no_slopes))
    return gradient.total(total), None, None, None, None  # none but the parameters has a gradient


_log_probs.defvjp(_forward, _backward)

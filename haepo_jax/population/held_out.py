"""Greedy evaluation on held-out episodes while members train, and the best policy that it has found."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax.types import Metrics, Params

EVAL_RETURN = "eval_return"
"""The metric: the mean return of the held-out episodes; NaN at updates without evaluation."""


@flax.struct.dataclass
class BestPolicy:
    """The policy of the largest evaluation return so far, the earliest of those that tie."""

    params: Params
    """What the policy takes, exactly those that were scored; zeros before the first evaluation."""
    eval_return: jax.Array
    """float32; -inf before the first evaluation."""
    update: jax.Array
    """int32, updates done when it was scored, as the checkpoint of that policy is named; -1 before the first
    evaluation."""


def no_best(params: Params) -> BestPolicy:
    """Makes what a member holds before its first evaluation.

    Args:
      params: of its structure.
    """
    return BestPolicy(jax.tree.map(jnp.zeros_like, params), jnp.float32(-jnp.inf), jnp.int32(-1))


def better_of(best: BestPolicy, params: Params, eval_return: jax.Array, update: jax.Array) -> BestPolicy:
    """Chooses between the best policy so far and one that was just scored; a return that is not finite never wins.

    Args:
      best: so far.
      params: of the other policy.
      eval_return: its score, float32; NaN where it has none.
      update: int32, updates done.
    """
    wins = jnp.isfinite(eval_return) & (eval_return > best.eval_return)
    return jax.tree.map(lambda new, old: jnp.where(wins, new, old), BestPolicy(params, eval_return, update), best)


def evaluate_members(
    functions: Any, every: int, state: Any, metrics: Metrics, update: jax.Array
) -> tuple[Any, Metrics]:
    """Evaluates members that have just learned, if it is their turn, and keeps the better of their policies.

    It is a branch on a count that all members share: at other updates nothing is played.

    Args:
      functions: `MemberFunctions`.
      every: updates between two evaluations.
      state: `MemberState` of the members of a device.
      metrics: of their update, `[members]` each.
      update: int32, updates done.

    Returns:
      The state, and the metrics with `eval_return`; NaN for a member that has stopped before or has just diverged.
    """

    def evaluate(state: Any) -> tuple[BestPolicy, jax.Array]:
        learned = (metrics["env_steps"] > 0) & ~state.diverged
        returns = jnp.where(learned, jax.vmap(functions.evaluate)(state), jnp.nan)
        params = jax.vmap(functions.algorithm.policy_params)(state.learner)
        best = jax.vmap(better_of, in_axes=(0, 0, 0, None))(state.best, params, returns, update)
        return best, returns

    def skip(state: Any) -> tuple[BestPolicy, jax.Array]:
        return state.best, jnp.full(state.diverged.shape, jnp.nan, jnp.float32)

    best, returns = jax.lax.cond(update % every == 0, evaluate, skip, state)
    return dataclasses.replace(state, best=best), metrics | {EVAL_RETURN: returns}

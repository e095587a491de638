"""Episodes as wholes: the sums over their steps, from kept trajectories or from play that keeps nothing else."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.losses import trajectory_log_likelihood, trajectory_returns
from haepo_jax.networks import Params, Policy, action_log_probs
from haepo_jax.rollouts.episodes import Game, Trajectories


class Outcome(NamedTuple):
    """M episodes of which nothing more is known. All are `[M]`, float32 but for the lengths."""

    returns: jax.Array
    """Undiscounted."""
    discounted_returns: jax.Array
    log_likelihoods: jax.Array
    """Under the policy that played them, in nats."""
    lengths: jax.Array
    """int32, steps."""
    entropies: jax.Array
    """The policy's entropy, in nats, summed over the steps."""
    measures: Mapping[str, jax.Array]
    """What the environment measures, summed over the steps, by name."""


def outcome_of(trajectories: Trajectories, discount: ArrayLike = 1.0) -> Outcome:
    """The outcome of episodes that were kept."""

    def total(values: jax.Array) -> jax.Array:
        return jnp.where(trajectories.mask, values, 0).sum(axis=-1, dtype=jnp.float32)

    return Outcome(
        returns=total(trajectories.rewards),
        discounted_returns=trajectory_returns(trajectories.rewards, discount=discount, where=trajectories.mask),
        log_likelihoods=trajectory_log_likelihood(trajectories.log_probs, where=trajectories.mask),
        lengths=trajectories.mask.sum(axis=-1, dtype=jnp.int32),
        entropies=total(trajectories.entropies),
        measures={name: total(values) for name, values in trajectories.measures.items()},
    )


def play(game: Game, discount: ArrayLike = 1.0) -> Outcome:
    """Plays a game, in memory that does not grow with its horizon.

    Args:
      game: M episodes.
      discount: of the discounted returns.
    """
    return _summed(game, functools.partial(_outcome_of_steps, discount))


def play_beside(game: Game, discount: ArrayLike, policy: Policy, params: Params) -> tuple[Outcome, jax.Array]:
    """`play` and `log_likelihoods` at once."""

    def both(t: jax.Array, steps: Trajectories) -> tuple[Outcome, jax.Array]:
        return _outcome_of_steps(discount, t, steps), _likelihood_of_steps(policy, params, t, steps)

    return _summed(game, both)


def log_likelihoods(game: Game, policy: Policy, params: Params) -> jax.Array:
    """The log-likelihoods `[M]` of a game's episodes under other parameters than those that play it."""
    return _summed(game, functools.partial(_likelihood_of_steps, policy, params))


def _outcome_of_steps(discount: ArrayLike, t: jax.Array, steps: Trajectories) -> Outcome:
    # The powers of the discount begin anew with each chunk, and are brought to its time here.
    outcome = outcome_of(steps, discount)
    elapsed = jnp.where(t == 0, 1, jnp.asarray(discount, jnp.float32) ** jnp.maximum(t, 1))
    return outcome._replace(discounted_returns=outcome.discounted_returns * elapsed)


def _likelihood_of_steps(policy: Policy, params: Params, t: jax.Array, steps: Trajectories) -> jax.Array:
    del t
    log_probs = action_log_probs(policy, params, steps.observations, steps.actions)
    return trajectory_log_likelihood(log_probs, where=steps.mask)


def _summed(game: Game, measure: Callable[[jax.Array, Trajectories], Any]) -> Any:
    """The sums over a game's chunks of what `measure(t, steps)` makes of each, arrays `[M]`."""

    def add(t: jax.Array, steps: Trajectories, sums: Any) -> Any:
        return jax.tree.map(_added, sums, measure(t, steps), is_leaf=_is_sum)

    shapes = jax.eval_shape(measure, jnp.int32(0), game.chunk_shapes())
    return jax.tree.map(_total, game.fold(add, jax.tree.map(_nothing, shapes)), is_leaf=_is_sum)


class _Sum(NamedTuple):
    """A running sum, with the rounding errors it has made: an episode may have millions of steps."""

    value: jax.Array
    error: jax.Array


def _is_sum(node: object) -> bool:
    return isinstance(node, _Sum)


def _nothing(shape: jax.ShapeDtypeStruct) -> _Sum:
    zeros = jnp.zeros(shape.shape, shape.dtype)
    return _Sum(zeros, zeros)


def _added(total: _Sum, term: jax.Array) -> _Sum:
    """Neumaier (1974), "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen"."""
    value = total.value + term
    from_value, from_term = (total.value - value) + term, (term - value) + total.value
    lost = jnp.where(jnp.abs(total.value) >= jnp.abs(term), from_value, from_term)
    return _Sum(value, total.error + lost)


def _total(total: _Sum) -> jax.Array:
    return total.value + total.error


def episode_metrics(outcome: Outcome) -> dict[str, jax.Array]:
    """What is reported of any batch of episodes.

    Args:
      outcome: of M episodes.

    Returns:
      float32 scalars, means over the episodes: `episode_return` (undiscounted), `episode_length`, and the sum of
      each of the environment's measures over an episode; `policy_entropy`, the mean over all steps; and
      `env_steps`, int32.
    """
    return {
        "episode_return": outcome.returns.mean(),
        "episode_length": jnp.mean(outcome.lengths, dtype=jnp.float32),
        "policy_entropy": outcome.entropies.sum() / outcome.lengths.sum(),
        "env_steps": outcome.lengths.sum(dtype=jnp.int32),
    } | {name: values.mean() for name, values in outcome.measures.items()}

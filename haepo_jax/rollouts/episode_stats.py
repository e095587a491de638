"""Statistics of episodes: sums over their steps, from kept trajectories or from play that keeps nothing else."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.environments.interface import Environment
from haepo_jax.losses import trajectory_log_likelihood, trajectory_returns
from haepo_jax.networks import Policy, unroll_log_probs
from haepo_jax.networks.recurrent import Carry
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories
from haepo_jax.rollouts.lanes import average_by_kind
from haepo_jax.types import Params

NUM_EPISODES = "num_episodes"
"""The metric of a batch that is counted in steps: how many episodes it has."""
PLAIN_RETURN = "plain_return"
"""The metric of a batch some of whose episodes explore: the mean return of the others."""


class EpisodeStats(NamedTuple):
    """Sums over the steps of M episodes. All are `[M]`, float32 but for the lengths."""

    returns: jax.Array
    """Undiscounted."""
    discounted_returns: jax.Array
    log_likelihoods: jax.Array
    """Under the policy that played them, in nats."""
    lengths: jax.Array
    """int32, steps."""
    entropies: jax.Array
    """The policy's entropy, in nats, summed over the steps."""
    info_metrics: Mapping[str, jax.Array]
    """Info metrics of the environment, summed over the steps, by name."""


def episode_stats_of(trajectories: Trajectories, discount: ArrayLike = 1.0) -> EpisodeStats:
    """Computes the statistics of episodes that were kept."""

    def total(values: jax.Array) -> jax.Array:
        return jnp.where(trajectories.mask, values, 0).sum(axis=-1, dtype=jnp.float32)

    return EpisodeStats(
        returns=total(trajectories.rewards),
        discounted_returns=trajectory_returns(trajectories.rewards, discount=discount, where=trajectories.mask),
        log_likelihoods=trajectory_log_likelihood(trajectories.log_probs, where=trajectories.mask),
        lengths=trajectories.mask.sum(axis=-1, dtype=jnp.int32),
        entropies=total(trajectories.entropies),
        info_metrics={name: total(values) for name, values in trajectories.info_metrics.items()},
    )


class Measure(NamedTuple):
    """Sums over the steps of M episodes, chunk by chunk."""

    of: Callable[[jax.Array, Trajectories, Any], tuple[Any, Any]]
    """`(first time of a chunk, its steps, memory) -> (arrays [M], which are summed over the chunks, memory)`."""
    start: Callable[[int], Any] = lambda num_lanes: ()
    """`M -> memory` before the first chunk."""


def play(unroll: EpisodeUnroll, discount: ArrayLike = 1.0) -> EpisodeStats:
    """Plays episodes, in memory that does not grow with their horizon.

    Args:
      unroll: of the episodes.
      discount: of the discounted returns.

    Returns:
      Their statistics; of several agents those of `join_agents`.
    """
    return join_agents(sum_over_chunks(unroll, measure_stats(discount)), unroll.environment.num_agents)


def join_agents(stats: EpisodeStats, num_agents: int) -> EpisodeStats:
    """Computes the statistics of the episodes of teams from those of agents.

    Args:
      stats: `[..., M N]`, of N agents each of M teams.
      num_agents: N.

    Returns:
      `[..., M]`: returns and discounted returns, the mean over agents; log-likelihoods, the sum; lengths, those of the
      agent that lasted longest, whose info metrics stand for all; entropies, the sum.
    """
    if num_agents == 1:
        return stats
    by_team: EpisodeStats = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], -1, num_agents), stats)
    longest, lengths = jnp.argmax(by_team.lengths, axis=-1, keepdims=True), by_team.lengths.max(axis=-1)
    return EpisodeStats(
        returns=by_team.returns.mean(axis=-1),
        discounted_returns=by_team.discounted_returns.mean(axis=-1),
        log_likelihoods=by_team.log_likelihoods.sum(axis=-1),
        lengths=lengths,
        entropies=by_team.entropies.sum(axis=-1),
        info_metrics={
            name: jnp.take_along_axis(values, longest, axis=-1)[..., 0]
            for name, values in by_team.info_metrics.items()
        },
    )


def measure_stats(discount: ArrayLike) -> Measure:
    """Makes the measure that gives the `EpisodeStats` of M episodes."""
    return Measure(lambda t, steps, memory: (_stats_of_steps(discount, t, steps), memory))


def measure_lengths() -> Measure:
    """Makes the measure that gives the steps `[M]`, int32, of M episodes."""
    return Measure(lambda t, steps, memory: (steps.mask.sum(axis=-1, dtype=jnp.int32), memory))


def measure_log_likelihoods(policy: Policy, params: Params) -> Measure:
    """Makes the measure that gives log-likelihoods `[M]`, in nats, of episodes that any parameters play."""

    def measure(t: jax.Array, steps: Trajectories, carry: Carry) -> tuple[jax.Array, Carry]:
        del t
        carry, log_probs = unroll_log_probs(policy, params, carry, steps.observations, steps.actions, steps.resets)
        return trajectory_log_likelihood(log_probs, where=steps.mask), carry

    return Measure(measure, policy.start)


def measure_both(one: Measure, other: Measure) -> Measure:
    """Makes the measure that gives both."""

    def measure(t: jax.Array, steps: Trajectories, memories: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        (first, of_one), (second, of_other) = one.of(t, steps, memories[0]), other.of(t, steps, memories[1])
        return (first, second), (of_one, of_other)

    return Measure(measure, lambda num_lanes: (one.start(num_lanes), other.start(num_lanes)))


def _stats_of_steps(discount: ArrayLike, t: jax.Array, steps: Trajectories) -> EpisodeStats:
    # The powers of the discount begin anew with each chunk, and are brought to its time here.
    stats = episode_stats_of(steps, discount)
    elapsed = jnp.where(t == 0, 1, jnp.asarray(discount, jnp.float32) ** jnp.maximum(t, 1))
    return stats._replace(discounted_returns=stats.discounted_returns * elapsed)


def sum_over_chunks(unroll: EpisodeUnroll, measure: Measure) -> Any:
    """Sums what is measured of the steps, arrays `[M]`, over the chunks of an unroll."""
    return sum_and_watch(unroll, measure, ignore, None)[0]


Watch = Callable[[Trajectories, Any], Any]
"""`(steps of a chunk, what was seen before) -> what was seen`."""


def ignore(steps: Trajectories, seen: Any) -> Any:
    """Watches nothing."""
    del steps
    return seen


def sum_and_watch(unroll: EpisodeUnroll, measure: Measure, watch: Watch, seen: Any) -> tuple[Any, Any]:
    """Computes the sums of `sum_over_chunks`, and what a watch sees of the same chunks.

    Args:
      unroll: M episodes.
      measure: of a chunk.
      watch: sees the chunks in order.
      seen: before.
    """

    def add_chunk(t: jax.Array, steps: Trajectories, so_far: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        sums, memory, seen = so_far
        measured, memory = measure.of(t, steps, memory)
        return jax.tree.map(_add, sums, measured, is_leaf=_is_sum), memory, watch(steps, seen)

    nothing = jax.tree.map(_zero, measured_shapes(unroll, measure))
    sums, _, seen = unroll.fold(add_chunk, (nothing, measure.start(unroll.num_lanes), seen))
    return jax.tree.map(_total, sums, is_leaf=_is_sum), seen


def measured_shapes(unroll: EpisodeUnroll, measure: Measure) -> Any:
    """Computes shapes and dtypes of what a measure gives of an unroll."""
    return jax.eval_shape(
        lambda steps: measure.of(jnp.int32(0), steps, measure.start(unroll.num_lanes))[0],
        unroll.chunk_shapes(),
    )


class _Sum(NamedTuple):
    """A running sum, with the rounding errors it has made: an episode may have millions of steps."""

    value: jax.Array
    error: jax.Array


def _is_sum(node: object) -> bool:
    return isinstance(node, _Sum)


def _zero(shape: jax.ShapeDtypeStruct) -> _Sum:
    zeros = jnp.zeros(shape.shape, shape.dtype)
    return _Sum(zeros, zeros)


def _add(total: _Sum, term: jax.Array) -> _Sum:
    """Adds as Neumaier (1974), "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen"."""
    value = total.value + term
    from_value, from_term = (total.value - value) + term, (term - value) + total.value
    lost = jnp.where(jnp.abs(total.value) >= jnp.abs(term), from_value, from_term)
    return _Sum(value, total.error + lost)


def _total(total: _Sum) -> jax.Array:
    return total.value + total.error


def episode_metrics(
    stats: EpisodeStats,
    where: jax.Array | None = None,
    persistences: jax.Array | None = None,
    *,
    environment: Environment | None = None,
) -> dict[str, jax.Array]:
    """Computes the metrics that any batch of episodes reports.

    Args:
      stats: of M episodes; of N agents, M = E N of them in E episodes.
      where: `[M]` boolean, True for the episodes that there are, of a batch that may have fewer; it then reports their
        number too. The others are all 0.
      persistences: `[M]` int32, steps for which the noise of each episode's actions lasts, if it lasts in some.
      environment: of N agents; None where there is one.

    Returns:
      float32 scalars, means over the episodes: `episode_return` (undiscounted; the mean over agents),
      `episode_length`, and the sum of each of the environment's info metrics over an episode; `policy_entropy`, the
      mean over all steps of all agents; and `env_steps`, int32. With `where` also `num_episodes`; with `persistences`
      also `plain_return`, the mean over those of persistence 1, NaN where there is none; of agents of several kinds
      also the return of each.
    """
    by_kind: dict[str, jax.Array] = {}
    num_agents = 1
    if environment is not None:
        num_agents = environment.num_agents
        by_kind = average_by_kind(environment, stats.returns)
    entropy = stats.entropies.sum() / stats.lengths.sum()
    stats = join_agents(stats, num_agents)
    # One of a team stands for all.
    where, persistences = jax.tree.map(lambda leaf: leaf[..., ::num_agents], (where, persistences))
    metrics = {
        "episode_return": jnp.mean(stats.returns, where=where),
        "episode_length": jnp.mean(stats.lengths, dtype=jnp.float32, where=where),
        "policy_entropy": entropy,
        "env_steps": stats.lengths.sum(dtype=jnp.int32),
    } | {name: jnp.mean(values, where=where) for name, values in {**stats.info_metrics, **by_kind}.items()}
    if where is not None:
        metrics[NUM_EPISODES] = where.sum(dtype=jnp.float32)
    if persistences is not None:
        metrics[PLAIN_RETURN] = jnp.mean(stats.returns, where=persistences == 1)
    return metrics

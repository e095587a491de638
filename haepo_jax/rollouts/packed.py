"""Whole episodes of several rounds, packed: in each of M lanes a round's episode follows the longest of the last."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.parallel import max_over_members
from haepo_jax.rollouts.episode_stats import EpisodeStats
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories
from haepo_jax.rollouts.rounds import Round, Rounds


@flax.struct.dataclass
class PackedEpisodes:
    """At most R rounds of M episodes. Numbers of episodes are `[R, M]`, 0 for those of rounds that were not played.

    In a row of its own an episode of round r in lane m is the one with index `r M + m`.
    """

    steps: Trajectories
    """`[M, S, ...]`; masked in each lane from the end of a round's episode to the next round, and after the last."""
    starts: jax.Array
    """`[R]` int32, the time at which each round begins; S for a round that was not played."""
    time: jax.Array
    """int32, where the longest episode of the last round ends."""
    horizon: int = flax.struct.field(pytree_node=False)
    """T, the most steps of an episode."""
    persistences: jax.Array | None = None
    """`[R, M]` int32, steps for which the noise of each episode's actions lasts; None where each step has its own."""

    @property
    def rewards(self) -> jax.Array:
        """`[M, S]`."""
        return self.steps.rewards

    @property
    def is_valid(self) -> jax.Array:
        """`[R, M]` boolean, True for the episodes that were played."""
        num_lanes, size = self.steps.mask.shape
        return jnp.broadcast_to((self.starts < size)[:, None], (self.starts.size, num_lanes))

    @property
    def round_of_step(self) -> jax.Array:
        """`[S]` int32, the newest round that has begun."""
        return jnp.searchsorted(self.starts, self._times, side="right").astype(jnp.int32) - 1

    @property
    def episode_of_step(self) -> jax.Array:
        """`[M, S]` int32, the index of the episode that each step belongs to; that before where none does."""
        num_lanes = self.steps.mask.shape[0]
        return self.round_of_step * num_lanes + jnp.arange(num_lanes, dtype=jnp.int32)[:, None]

    @property
    def elapsed(self) -> jax.Array:
        """`[S]` int32, the steps since the round began."""
        return self._times - self.starts[self.round_of_step]

    @property
    def has_next(self) -> jax.Array:
        """`[M, S]` boolean, True for the steps after which their episode has another one."""
        following = jnp.pad(self.steps.mask[:, 1:], ((0, 0), (0, 1)))
        return self.steps.mask & following & jnp.pad(self.elapsed[1:] > 0, (0, 1))

    @property
    def resets(self) -> jax.Array:
        """`[M, S]` boolean, True where a policy that remembers begins anew: with each episode, and between two."""
        return self.steps.resets | (self.elapsed == 0)

    @property
    def _times(self) -> jax.Array:
        return jnp.arange(self.steps.mask.shape[1], dtype=jnp.int32)

    def sum_over_steps(self, values: Any) -> Any:
        """Sums values of steps, a tree of `[M, S]`, to those of episodes, `[R, M]`. The sums have a gradient."""
        masked = jax.tree.map(lambda leaf: jnp.where(self.steps.mask, leaf, 0), values)
        sums = _sum_rounds(self.horizon, masked, self.starts, self.round_of_step)
        return jax.tree.map(lambda leaf: jnp.where(self.is_valid, leaf, 0), sums)

    def without_reports(self) -> "PackedEpisodes":
        """Drops what neither log-likelihoods nor sums over steps need, such as rewards, entropies and info metrics."""
        nothing: Any = ()
        steps = self.steps._replace(rewards=nothing, entropies=nothing, info_metrics={})
        return dataclasses.replace(self, steps=steps, persistences=None)

    def stats(self) -> EpisodeStats:
        """Computes the statistics of the episodes, their discounted returns left undiscounted."""
        steps, info_metrics = self.steps, dict(self.steps.info_metrics)
        values = (steps.rewards, steps.log_probs, steps.mask.astype(jnp.int32), steps.entropies, info_metrics)
        returns, log_likelihoods, lengths, entropies, info_metrics = self.sum_over_steps(values)
        return EpisodeStats(returns, returns, log_likelihoods, lengths, entropies, info_metrics)

    def discounted_returns(self, rewards: jax.Array, discount: ArrayLike) -> jax.Array:
        """Computes the discounted returns `[R, M]` of rewards `[M, S]`."""
        # The first power apart: that of a discount of 0 has no slope.
        powers = jnp.asarray(discount, jnp.float32) ** jnp.maximum(self.elapsed, 1)
        return self.sum_over_steps(rewards * jnp.where(self.elapsed == 0, 1, powers))


def collect_rounds(rounds: Rounds) -> PackedEpisodes:
    """Plays rounds of episodes, and keeps their steps."""
    bounds, chunk = rounds.bounds, rounds.first.chunk
    # A chunk more: a round's last one may reach beyond the horizon, and a member that waits writes behind all its own.
    size = bounds.max_time + chunk
    nothing = jax.tree.map(
        lambda leaf: jnp.zeros((leaf.shape[0], size, *leaf.shape[2:]), leaf.dtype), rounds.first.chunk_shapes()
    )

    def keep_round(here: Round, unroll: EpisodeUnroll, kept: tuple) -> tuple[jax.Array, tuple]:
        packed, starts = kept

        def keep(t: jax.Array, steps: Trajectories, so_far: tuple) -> tuple:
            lengths, packed = so_far
            # The masked steps after a round's longest episode are overwritten by the next round.
            packed = jax.tree.map(
                lambda every, few: jax.lax.dynamic_update_slice_in_dim(every, few, here.time + t, axis=1),
                packed,
                steps,
            )
            return lengths + steps.mask.sum(axis=-1, dtype=jnp.int32), packed

        lengths, packed = unroll.fold(keep, (jnp.zeros(bounds.num_trajectories, jnp.int32), packed))
        return lengths, (packed, starts.at[here.number].set(jnp.where(here.plays, here.time, size)))

    no_starts = jnp.full(bounds.max_rounds, size, jnp.int32)
    end, (packed, starts) = rounds.play(keep_round, (nothing, no_starts))
    return PackedEpisodes(packed, starts, end.time, bounds.horizon, rounds.list_persistences(end.num_played))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_rounds(horizon: int, values: Any, starts: jax.Array, round_of_step: jax.Array) -> Any:
    """Sums values `[M, S]` over the steps of each round, `[R, M]`; anything for a round that was not played.

    Round by round in a loop: adding to places by index would have no order on a GPU.
    """
    del round_of_step
    num_lanes, size = jax.tree.leaves(values)[0].shape
    ends = jnp.concatenate([starts[1:], jnp.full(1, size, jnp.int32)])

    def sum_round(number: jax.Array, sums: Any) -> Any:
        first = starts[number]
        belongs = first + jnp.arange(horizon) < ends[number]

        def sum_of(leaf: jax.Array) -> jax.Array:
            window = jax.lax.dynamic_slice_in_dim(leaf, first, horizon, axis=1)
            return jnp.where(belongs, window, 0).sum(axis=1, dtype=leaf.dtype)

        return jax.tree.map(lambda every, leaf: every.at[number].set(sum_of(leaf)), sums, values)

    nothing = jax.tree.map(lambda leaf: jnp.zeros((starts.size, num_lanes), leaf.dtype), values)
    num_rounds = jnp.sum(starts < size, dtype=jnp.int32)
    return jax.lax.fori_loop(0, max_over_members(num_rounds), sum_round, nothing)


def _forward(horizon: int, values: Any, starts: jax.Array, round_of_step: jax.Array) -> tuple[Any, jax.Array]:
    return _sum_rounds(horizon, values, starts, round_of_step), round_of_step


def _backward(horizon: int, round_of_step: jax.Array, slopes: Any) -> tuple:
    del horizon
    return jax.tree.map(lambda leaf: jnp.take(leaf, round_of_step, axis=0).T, slopes), None, None


_sum_rounds.defvjp(_forward, _backward)

"""Rounds of M whole episodes, one after the other, until a batch has come to enough steps.

Every episode that begins is played to its end and counts. So no length of episode is preferred, but for the rule that
ends the batch: it does so sooner after long episodes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.parallel import max_over_members
from haepo_jax.rollouts.episode_stats import (
    Measure,
    Watch,
    ignore,
    measure_both,
    measure_lengths,
    measured_shapes,
    sum_and_watch,
    sum_over_chunks,
)
from haepo_jax.rollouts.episodes import EpisodeUnroll

_LATER = 2  # what the key of later rounds is folded with: the first round's own use of it splits off 0 and 1


class RoundBounds(NamedTuple):
    """When a batch of rounds ends, and what follows for its size."""

    num_trajectories: int
    """M, the episodes of a round; of several agents those of each."""
    horizon: int
    """T, the steps at which an episode is cut."""
    min_steps: int
    """No further round begins once the episodes have come to so many steps."""
    max_steps: int | None
    """Nor one that could bring M times the longest episodes of all rounds beyond this; None for no such bound."""

    @property
    def max_rounds(self) -> int:
        """The most rounds: an episode has at least one step."""
        return 1 if self._last_start == 0 else min(-(-self.min_steps // self.num_trajectories), self._last_start + 1)

    @property
    def max_time(self) -> int:
        """The most steps of a lane, in which an episode of each round stands, waits for the longest included."""
        return self._last_start + self.horizon

    @property
    def most_env_steps(self) -> int:
        """The most environment steps of a batch."""
        of_round = self.num_trajectories * self.horizon
        if self._last_start == 0:
            return of_round
        return min(self.min_steps - 1 + of_round, self.num_trajectories * self.max_time)

    def wants_more(self, steps: jax.Array, time: jax.Array) -> jax.Array:
        """Decides whether a further round begins.

        Args:
          steps: int32, environment steps so far.
          time: int32, steps of a lane so far.
        """
        wants = steps < self.min_steps
        return wants if self.max_steps is None else wants & (time <= self._most_time_before())

    @property
    def _last_start(self) -> int:
        """The latest time at which a round may begin: a round of M takes at least M - 1 steps beside its longest."""
        by_steps = max(0, self.min_steps - self.num_trajectories)
        return by_steps if self.max_steps is None else min(by_steps, max(0, self._most_time_before()))

    def _most_time_before(self) -> int:
        assert self.max_steps is not None
        return self.max_steps // self.num_trajectories - self.horizon


class Round(NamedTuple):
    """Where a batch stands before a round."""

    number: jax.Array
    """int32, from 0; one for all members."""
    time: jax.Array
    """int32, the sum of the longest episodes of the rounds so far."""
    steps: jax.Array
    """int32, environment steps so far."""
    num_played: jax.Array
    """int32, rounds that this member has played."""
    plays: jax.Array
    """boolean, False for a member that has enough and waits for others."""


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds of episodes; the same arguments give the same ones again."""

    first: EpisodeUnroll
    """The first round, with the key of the batch. Later ones have keys of their own, which follow from it."""
    bounds: RoundBounds
    draw_persistences: Callable[[jax.Array], jax.Array] | None = None
    """`key of a round -> [M]` int32, steps for which the noise of its episodes' actions lasts; 1 by default."""

    def play(
        self, play_round: Callable[[Round, EpisodeUnroll, Any], tuple[jax.Array, Any]], initial: Any
    ) -> tuple[Round, Any]:
        """Plays rounds until there is enough, and folds `play_round(round, unroll, so_far)` over them.

        Members that are vmapped play as many rounds as the one that needs most. One that has enough is given unrolls
        whose steps are all masked.

        Args:
          play_round: plays the unroll; gives the lengths `[M]` of its episodes, and the result with this round.
          initial: the result before the first round.

        Returns:
          Where the batch stands in the end, and the result.
        """

        def wants_more(carry: tuple[Round, Any]) -> jax.Array:
            return max_over_members(carry[0].plays.astype(jnp.int32)) > 0

        def play_next(carry: tuple[Round, Any]) -> tuple[Round, Any]:
            here, so_far = carry
            lengths, so_far = play_round(here, self.unroll(here.number, here.plays), so_far)
            steps, time = here.steps + lengths.sum(dtype=jnp.int32), here.time + lengths.max()
            plays = here.plays & self.bounds.wants_more(steps, time)
            return Round(here.number + 1, time, steps, here.num_played + here.plays, plays), so_far

        nothing = jnp.int32(0)
        return jax.lax.while_loop(
            wants_more, play_next, (Round(nothing, nothing, nothing, nothing, jnp.bool_(True)), initial)
        )

    def sum_over_steps(self, measure: Measure, watch: Watch = ignore, seen: Any = None) -> tuple[jax.Array, Any, Any]:
        """Plays rounds until there is enough, and keeps of them what a measure sums over the steps of each episode.

        Args:
          measure: of the steps of episodes.
          watch: sees all steps that are played; nothing by default.
          seen: what it has seen before.

        Returns:
          The number of rounds, int32, the sums `[R, M]`, 0 for rounds that were not played, and what was seen.
        """

        def play_round(here: Round, unroll: EpisodeUnroll, so_far: tuple) -> tuple[jax.Array, tuple]:
            every, seen = so_far
            (lengths, sums), seen = sum_and_watch(unroll, measure_both(measure_lengths(), measure), watch, seen)
            return lengths, (_put_row(every, sums, here.number), seen)

        end, (sums, seen) = self.play(play_round, (self._no_sums(measure), seen))
        return end.num_played, sums, seen

    def sum_again(self, num_rounds: jax.Array, measure: Measure) -> Any:
        """Computes the sums `[R, M]` of a measure over the steps of rounds that were played before."""

        def play_round(number: jax.Array, unroll: EpisodeUnroll, so_far: Any) -> Any:
            return _put_row(so_far, sum_over_chunks(unroll, measure), number)

        return self.play_again(num_rounds, play_round, self._no_sums(measure))

    def _no_sums(self, measure: Measure) -> Any:
        shapes = measured_shapes(self.first, measure)
        return jax.tree.map(lambda leaf: jnp.zeros((self.bounds.max_rounds, *leaf.shape), leaf.dtype), shapes)

    def play_again(
        self,
        num_rounds: jax.Array,
        play_round: Callable[[jax.Array, EpisodeUnroll, Any], Any],
        initial: Any,
    ) -> Any:
        """Folds `play_round(number, unroll, so_far)` over rounds that were played before.

        Args:
          num_rounds: int32, how many there were.
          play_round: plays the unroll; gives the result with this round.
          initial: the result before the first round.
        """

        def play_next(number: jax.Array, so_far: Any) -> Any:
            return play_round(number, self.unroll(number, number < num_rounds), so_far)

        return jax.lax.fori_loop(0, max_over_members(num_rounds), play_next, initial)

    def unroll(self, number: jax.Array, plays: jax.Array) -> EpisodeUnroll:
        """Makes the unroll of a round.

        Args:
          number: int32, which one.
          plays: boolean, False where nothing is to be played.
        """
        key = self._key_of(number)
        persistences = None if self.draw_persistences is None else self.draw_persistences(key)
        return dataclasses.replace(self.first, key=key, plays=plays, persistences=persistences)

    def list_persistences(self, num_rounds: jax.Array) -> jax.Array | None:
        """Computes the persistences `[R, M]` of rounds that were played, 0 for others; None where none are drawn.

        Args:
          num_rounds: int32, how many there were.
        """
        if self.draw_persistences is None:
            return None
        numbers = jnp.arange(self.bounds.max_rounds)
        drawn = jax.vmap(self.draw_persistences)(jax.vmap(self._key_of)(numbers))
        return jnp.where(numbers[:, None] < num_rounds, drawn, 0)

    def _key_of(self, number: jax.Array) -> jax.Array:
        """The key of a round."""
        later = jax.random.fold_in(jax.random.fold_in(self.first.key, _LATER), number)
        return jnp.where(number == 0, self.first.key, later)


def _put_row(arrays: Any, rows: Any, number: jax.Array) -> Any:
    return jax.tree.map(lambda every, row: every.at[number].set(row), arrays, rows)

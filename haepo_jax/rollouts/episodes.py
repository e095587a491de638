"""Complete episodes on the device: from a policy and a key to trajectories."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import Environment
from haepo_jax.networks import Policy
from haepo_jax.networks.recurrent import Carry
from haepo_jax.parallel import TRAJECTORIES, max_over_members
from haepo_jax.rollouts.lanes import choose, of_environments, reset_environments, step_environments
from haepo_jax.rollouts.persistence import draw_noise
from haepo_jax.types import Params

_MOST_STEPS = 25  # of a chunk, after which it is checked that an episode is alive; divides most horizons in use


class Trajectories(NamedTuple):
    """M episodes, each from its own reset, cut at T steps. Steps after an episode's end are masked.

    Where several agents play, an episode is that of one of them: there are N of each environment (`rollouts.lanes`).
    """

    observations: jax.Array
    """`[M, T, *O]` as the policy saw them; after the end the last valid observation repeated, then zeros."""
    actions: jax.Array
    """`[M, T]` or `[M, T, A]` as the policy sampled them."""
    log_probs: jax.Array
    """`[M, T]` log-probability of the action under the policy that sampled it, in nats."""
    rewards: jax.Array
    """`[M, T]`."""
    mask: jax.Array
    """`[M, T]` boolean, True for the steps of the episode."""
    entropies: jax.Array
    """`[M, T]` entropy of the policy at each step, in nats."""
    info_metrics: Mapping[str, jax.Array] = {}
    """`[M, T]` info metrics of each step, by name."""
    persistences: jax.Array | None = None
    """`[M]` int32, steps for which the noise of each episode's actions lasts; None where each step has its own."""
    next_observations: jax.Array | None = None
    """`[M, T, *O]` after the action; None where ends are not kept."""
    terminated: jax.Array | None = None
    """`[M, T]` boolean, the task itself ended the episode here; None likewise."""

    @property
    def resets(self) -> jax.Array:
        """`[M, T]` boolean, True where a policy that remembers begins anew: nothing grows after an episode's end."""
        return ~self.mask


def collect(
    environment: Environment,
    policy: Policy,
    params: Params,
    key: jax.Array,
    *,
    num_trajectories: int,
    horizon: int,
    env_params: Mapping[str, jax.Array | float] | None = None,
    greedy: bool = False,
    persistences: jax.Array | None = None,
    keeps_ends: bool = False,
    unrolled_steps: int = 1,
) -> Trajectories:
    """Plays `num_trajectories` episodes of at most `horizon` steps.

    It stops soon after the longest episode has ended, of all that are played together under `vmap`. The randomness
    of step t depends on `key` and t alone, so that a longer horizon begins with the steps of a shorter one.

    Args:
      environment: where to play.
      policy: who plays.
      params: the policy's parameters.
      key: typed PRNG key.
      num_trajectories: how many environments are played: M, or of N agents M / N.
      horizon: T.
      env_params: numbers of the environment, by name; its defaults for those left out.
      greedy: take the mode of each distribution instead of a sample.
      persistences: `[M]` int32, steps for which the noise of each episode's actions lasts; 1 by default.
      keeps_ends: keep what each step led to, and whether the task itself ended the episode there.
      unrolled_steps: as of `EpisodeUnroll`.

    Returns:
      `Trajectories` with arrays `[M, T, ...]`.
    """
    arguments = (environment, policy, params, key, num_trajectories, horizon, env_params or {}, greedy)
    unroll = EpisodeUnroll(*arguments, persistences=persistences, keeps_ends=keeps_ends, unrolled_steps=unrolled_steps)

    def keep(t: jax.Array, steps: Trajectories, kept: Trajectories) -> Trajectories:
        return jax.tree.map(
            lambda all_steps, chunk: jax.lax.dynamic_update_slice_in_dim(all_steps, chunk, t, axis=1), kept, steps
        )

    padded = -(-horizon // unroll.chunk) * unroll.chunk
    nothing = jax.tree.map(
        lambda leaf: jnp.zeros((unroll.num_lanes, padded, *leaf.shape[2:]), leaf.dtype), unroll.chunk_shapes()
    )
    episodes = jax.tree.map(lambda record: record[:, :horizon], unroll.fold(keep, nothing))
    return episodes._replace(persistences=persistences)


class Playing(NamedTuple):
    """M episodes between two steps."""

    state: Any
    observation: jax.Array
    alive: jax.Array
    """`[M]` boolean."""
    carry: Carry = ()
    """`[M, *C]`, what the policy remembers; empty for a policy without memory."""


class _Randomness(NamedTuple):
    """The randomness of one step of M episodes."""

    noise: jax.Array
    """Of the actions, as the policy draws it."""
    environment_key: jax.Array


@dataclasses.dataclass(frozen=True)
class EpisodeUnroll:
    """M episodes, played chunk by chunk; only the results of `fold` are kept.

    The same arguments give the same episodes again. They are those of `collect`.
    """

    environment: Environment
    policy: Policy
    params: Params
    key: jax.Array
    num_trajectories: int
    horizon: int
    env_params: Mapping[str, jax.Array | float]
    greedy: bool = False
    persistences: jax.Array | None = None
    """`[M]` int32, steps for which the noise of each episode's actions lasts; None where each step has its own, which
    costs less to draw than persistences of 1 and gives other actions."""
    plays: jax.Array | None = None
    """boolean scalar, False where nothing is to be played: then all steps are masked. None as True."""
    keeps_ends: bool = False
    """As of `collect`."""
    unrolled_steps: int = 1
    """Steps that are compiled as one turn of a loop."""

    @property
    def num_lanes(self) -> int:
        """M."""
        return self.num_trajectories * self.environment.num_agents

    @property
    def chunk(self) -> int:
        """Steps of a chunk: a divisor of the horizon if one is near, so that nothing is played beyond the horizon."""
        if self.horizon <= _MOST_STEPS:
            return self.horizon
        sizes = range(_MOST_STEPS // 2, _MOST_STEPS + 1)
        return max((size for size in sizes if self.horizon % size == 0), default=_MOST_STEPS)

    def fold(self, visit: Callable[[jax.Array, Trajectories, Any], Any], initial: Any) -> Any:
        """Plays all chunks up to the end of the longest episode, and folds `visit(t, steps, so_far)` over them.

        Args:
          visit: takes the first time of a chunk, its steps as `Trajectories` `[M, chunk, ...]`, and the result for
            the chunks before. Where the chunk is no divisor of the horizon, steps beyond the horizon are masked.
          initial: the result before the first chunk.

        Returns:
          The result for all chunks.
        """

        def play_next(t: jax.Array, playing: Playing, so_far: Any) -> tuple[Playing, Any]:
            playing, steps = self._play_chunk(t, playing)
            return playing, visit(t, steps, so_far)

        return self._fold(play_next, initial)[1]

    def fold_back(
        self,
        remember: Callable[[jax.Array, Trajectories, Any], Any],
        memory: Any,
        visit: Callable[[Trajectories, Any, Any], Any],
        initial: Any,
    ) -> Any:
        """Plays all chunks, and then each once more from where it began, from the last to the first.

        The memory and the state of the environments are kept where each chunk begins.

        Args:
          remember: `(first time of a chunk, its steps, memory before it) -> memory after it`, chunk after chunk.
          memory: before the first chunk, a tree of arrays.
          visit: `(steps of a chunk, memory before it, result for the chunks after it) -> result with this chunk`.
          initial: the result before the last chunk.

        Returns:
          The result for all chunks.
        """
        starts = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (-(-self.horizon // self.chunk), *leaf.shape)),
            (self._start(), memory),
        )

        def play_next(t: jax.Array, playing: Playing, so_far: tuple[Any, Any]) -> tuple[Playing, tuple[Any, Any]]:
            memory, starts = so_far
            starts = jax.tree.map(lambda every, one: every.at[t // self.chunk].set(one), starts, (playing, memory))
            playing, steps = self._play_chunk(t, playing)
            return playing, (remember(t, steps, memory), starts)

        end, (_, starts) = self._fold(play_next, (memory, starts))
        number = end // self.chunk

        def play_before(done: jax.Array, so_far: Any) -> Any:
            i = number - 1 - done
            playing, memory = jax.tree.map(lambda every: every[i], starts)
            return visit(self._play_chunk(i * self.chunk, playing)[1], memory, so_far)

        return jax.lax.fori_loop(0, number, play_before, initial)

    def _fold(
        self, play_next: Callable[[jax.Array, Playing, Any], tuple[Playing, Any]], initial: Any
    ) -> tuple[jax.Array, Any]:
        """Folds over the chunks up to the end of the longest episode; gives the time of that too."""

        def play(carry: tuple[jax.Array, Playing, Any]) -> tuple[jax.Array, Playing, Any]:
            t, playing, so_far = carry
            return t + self.chunk, *play_next(t, playing, so_far)

        def is_alive(carry: tuple[jax.Array, Playing, Any]) -> jax.Array:
            t, playing, _ = carry
            in_time = t < self.horizon
            # Devices that share the trajectories would have to wait for one another to know.
            return in_time if shared else in_time & (max_over_members(playing.alive.any().astype(jnp.int32)) > 0)

        shared = jax.sharding.get_abstract_mesh().shape.get(TRAJECTORIES, 1) > 1
        start = (jnp.int32(0), self._start(), initial)
        end, _, result = play(start) if self.chunk == self.horizon else jax.lax.while_loop(is_alive, play, start)
        return end, result

    def _play_chunk(self, t: jax.Array, playing: Playing) -> tuple[Playing, Trajectories]:
        times = t + jnp.arange(self.chunk)
        unroll = min(self.unrolled_steps, self.chunk)
        playing, records = jax.lax.scan(self._step, playing, self._draw(times), unroll=unroll)
        steps: Trajectories = jax.tree.map(lambda record: jnp.moveaxis(record, 0, 1), records)
        if self.horizon % self.chunk:
            steps = steps._replace(mask=steps.mask & (times < self.horizon))
        return playing, steps

    def chunk_shapes(self) -> Trajectories:
        """Computes shapes and dtypes of a chunk's steps."""

        def one_step() -> Any:
            randomness = jax.tree.map(lambda leaf: leaf[0], self._draw(jnp.arange(1)))
            return self._step(self._start(), randomness)[1]

        def with_time(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self.num_lanes, self.chunk, *leaf.shape[1:]), leaf.dtype)

        return jax.tree.map(with_time, jax.eval_shape(one_step))

    def _start(self) -> Playing:
        reset_key, _ = jax.random.split(self.key)
        keys = jax.random.split(reset_key, self.num_trajectories)
        state, observation = reset_environments(self.environment, self.env_params, keys)
        alive = jnp.ones((self.num_lanes,), bool)
        alive = alive if self.plays is None else alive & self.plays
        return Playing(state, observation, alive, self.policy.start(self.num_lanes))

    def _draw(self, times: jax.Array) -> _Randomness:
        """Draws the randomness of steps `[S]`: all of a chunk at once costs a fraction of drawing it step by step."""
        _, step_key = jax.random.split(self.key)

        def draw_step(t: jax.Array) -> _Randomness:
            act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
            if self.persistences is not None:
                return _Randomness(draw_noise(self.policy, self.key, self.persistences, t), env_key)
            return _Randomness(self.policy.noise(act_key, (self.num_lanes,)), env_key)

        return jax.vmap(draw_step)(times)

    def _step(self, playing: Playing, randomness: _Randomness) -> tuple[Playing, Trajectories]:
        """Plays a step; its record is without an axis of time."""
        state, observation, alive, carry = playing
        next_carry, distribution = self.policy.step(self.params, carry, observation)
        action = distribution.mode() if self.greedy else self.policy.act(distribution, randomness.noise)
        env_keys = jax.random.split(randomness.environment_key, self.num_trajectories)
        after = step_environments(self.environment, self.env_params, env_keys, state, action)
        still_alive = alive & ~after.done
        # An ended episode stands still at its last valid step: later ones could hold infinities, which
        # reach the gradient through the policy though the step is masked.
        goes_on = ~of_environments(self.environment, ~still_alive)
        next_state = choose(goes_on, after.state, state)
        next_observation, next_carry = choose(still_alive, (after.observation, next_carry), (observation, carry))
        log_prob, entropy = distribution.log_prob(action), distribution.entropy()
        record = Trajectories(observation, action, log_prob, after.reward, alive, entropy, after.info_metrics)
        if self.keeps_ends:
            record = record._replace(next_observations=after.observation, terminated=after.terminated)
        return Playing(next_state, next_observation, still_alive, next_carry), record

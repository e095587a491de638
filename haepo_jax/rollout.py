"""Complete episodes on the device: from a policy and a key to trajectories."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import Environment
from haepo_jax.members import TRAJECTORIES
from haepo_jax.members_together import largest
from haepo_jax.policies import Params, Policy

_MOST_STEPS = 32  # between two looks at whether an episode goes on


class Trajectories(NamedTuple):
    """M episodes, each from its own reset, cut at T steps. Steps after an episode's end are masked."""

    observations: jax.Array
    """`[M, T, O]` what the policy saw; after the end the last valid observation repeated, then zeros."""
    actions: jax.Array
    """`[M, T]` or `[M, T, A]` what it did."""
    log_probs: jax.Array
    """`[M, T]` log-probability of the action under the policy that sampled it, in nats."""
    rewards: jax.Array
    """`[M, T]`."""
    mask: jax.Array
    """`[M, T]` boolean, True for the steps of the episode."""
    entropies: jax.Array
    """`[M, T]` entropy of the policy at each step, in nats."""
    measures: Mapping[str, jax.Array] = {}
    """`[M, T]` what the environment measures of each step beyond its reward, by name."""


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
) -> Trajectories:
    """Plays `num_trajectories` episodes of at most `horizon` steps.

    It stops soon after the longest episode has ended, of all that are played together under `vmap`. The randomness
    of step t depends on `key` and t alone, so that a longer horizon begins with the steps of a shorter one.

    Args:
      environment: where to play.
      policy: who plays.
      params: the policy's parameters.
      key: typed PRNG key.
      num_trajectories: M.
      horizon: T.
      env_params: numbers of the environment, by name; its defaults for those left out.
      greedy: take the mode of each distribution instead of a sample.

    Returns:
      `Trajectories` with arrays `[M, T, ...]`.
    """
    start, step = _game(environment, policy, params, key, num_trajectories, env_params or {}, greedy)
    size = _steps_of_a_chunk(horizon)
    # Where devices share the trajectories, to ask whether one of them goes on would make them wait for one another.
    if size == horizon or jax.sharding.get_abstract_mesh().shape.get(TRAJECTORIES, 1) > 1:
        _, records = jax.lax.scan(step, start, jnp.arange(horizon))
        return Trajectories(*_time_second(records))

    def play_chunk(t: jax.Array, playing: _Playing, played: Any) -> tuple[_Playing, Any]:
        playing, records = jax.lax.scan(step, playing, t + jnp.arange(size))
        return playing, jax.tree.map(
            lambda all_steps, chunk: jax.lax.dynamic_update_slice_in_dim(all_steps, chunk, t, axis=1),
            played,
            _time_second(records),
        )

    padded = -(-horizon // size) * size
    shapes = jax.eval_shape(step, start, jnp.int32(0))[1]
    nothing = jax.tree.map(lambda leaf: jnp.zeros((num_trajectories, padded, *leaf.shape[1:]), leaf.dtype), shapes)
    played = _until_all_have_ended(play_chunk, start, nothing, horizon, size)
    return Trajectories(*jax.tree.map(lambda record: record[:, :horizon], played))


class Outcome(NamedTuple):
    """M episodes of which nothing more is kept."""

    returns: jax.Array
    """`[M]` float32, undiscounted."""
    log_likelihoods: jax.Array
    """`[M]` float32, under the policy that played them, in nats."""
    lengths: jax.Array
    """`[M]` int32, steps."""


def play(
    environment: Environment,
    policy: Policy,
    params: Params,
    key: jax.Array,
    *,
    num_trajectories: int,
    horizon: int,
    env_params: Mapping[str, jax.Array | float] | None = None,
) -> Outcome:
    """Plays the episodes that `collect` collects, in memory that does not grow with the horizon.

    Args:
      environment: where to play.
      policy: who plays.
      params: the policy's parameters.
      key: typed PRNG key.
      num_trajectories: M.
      horizon: T.
      env_params: numbers of the environment, by name; its defaults for those left out.

    Returns:
      `Outcome`.
    """
    start, step = _game(environment, policy, params, key, num_trajectories, env_params or {}, greedy=False)
    size = _steps_of_a_chunk(horizon)

    def play_step(carry: tuple[_Playing, Outcome], t: jax.Array) -> tuple[tuple[_Playing, Outcome], None]:
        playing, (_, _, log_prob, reward, alive, *_) = step(carry[0], t)
        # A horizon that is no whole number of chunks ends within one.
        counts = alive & (t < horizon)
        outcome = carry[1]
        return (
            playing,
            Outcome(
                outcome.returns + jnp.where(counts, reward, 0),
                outcome.log_likelihoods + jnp.where(counts, log_prob, 0),
                outcome.lengths + counts,
            ),
        ), None

    def play_chunk(t: jax.Array, playing: _Playing, outcome: Outcome) -> tuple[_Playing, Outcome]:
        return jax.lax.scan(play_step, (playing, outcome), t + jnp.arange(size))[0]

    zeros = jnp.zeros((num_trajectories,), jnp.float32)
    nothing = Outcome(zeros, zeros, jnp.zeros((num_trajectories,), jnp.int32))
    return _until_all_have_ended(play_chunk, start, nothing, horizon, size)


class _Playing(NamedTuple):
    """M episodes that are going on."""

    state: Any
    observation: jax.Array
    alive: jax.Array
    """`[M]` boolean."""


def _game(
    environment: Environment,
    policy: Policy,
    params: Params,
    key: jax.Array,
    num_trajectories: int,
    env_params: Mapping[str, jax.Array | float],
    greedy: bool,
) -> tuple[_Playing, Callable[[_Playing, jax.Array], tuple[_Playing, tuple]]]:
    """M episodes at their start, and `(playing, t) -> (playing, the fields of Trajectories at step t)`."""
    reset_key, step_key = jax.random.split(key)
    reset = jax.vmap(environment.reset, in_axes=(None, 0))
    step_environments = jax.vmap(environment.step, in_axes=(None, 0, 0, 0))
    state, observation = reset(env_params, jax.random.split(reset_key, num_trajectories))

    def step(playing: _Playing, t: jax.Array) -> tuple[_Playing, tuple]:
        state, observation, alive = playing
        act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
        distribution = policy.apply(params, observation)
        if greedy:
            action = distribution.mode()
            log_prob = distribution.log_prob(action)
        else:
            action, log_prob = distribution.sample_and_log_prob(seed=act_key)
        after = step_environments(env_params, jax.random.split(env_key, num_trajectories), state, action)
        goes_on = alive & ~after.done
        # An ended episode stands still at its last valid step: what comes after could hold infinities, which
        # reach the gradient through the policy though the step is masked.
        next_state, next_observation = jax.tree.map(
            lambda new, old: jnp.where(goes_on.reshape(goes_on.shape + (1,) * (new.ndim - 1)), new, old),
            (after.state, after.observation),
            (state, observation),
        )
        record = (observation, action, log_prob, after.reward, alive, distribution.entropy(), after.measures)
        return _Playing(next_state, next_observation, goes_on), record

    return _Playing(state, observation, jnp.ones((num_trajectories,), bool)), step


def _until_all_have_ended(
    play_chunk: Callable[[jax.Array, _Playing, Any], tuple[_Playing, Any]],
    start: _Playing,
    nothing: Any,
    horizon: int,
    size: int,
) -> Any:
    """What `play_chunk(t, playing, so far)` has made of all chunks up to the end of the longest episode."""

    def goes_on(carry: tuple[jax.Array, _Playing, Any]) -> jax.Array:
        t, playing, _ = carry
        return (t < horizon) & (largest(playing.alive.any().astype(jnp.int32)) > 0)

    def next_chunk(carry: tuple[jax.Array, _Playing, Any]) -> tuple[jax.Array, _Playing, Any]:
        t, playing, so_far = carry
        return (t + size, *play_chunk(t, playing, so_far))

    return jax.lax.while_loop(goes_on, next_chunk, (jnp.int32(0), start, nothing))[2]


def _steps_of_a_chunk(horizon: int) -> int:
    """A divisor of the horizon if one is near, so that nothing is played beyond it."""
    if horizon <= _MOST_STEPS:
        return horizon
    divisors = [size for size in range(_MOST_STEPS // 2, _MOST_STEPS + 1) if horizon % size == 0]
    return max(divisors, default=_MOST_STEPS)


def _time_second(records: Any) -> Any:
    return jax.tree.map(lambda record: jnp.moveaxis(record, 0, 1), records)


def episode_metrics(trajectories: Trajectories) -> dict[str, jax.Array]:
    """What is reported of any batch of episodes.

    Args:
      trajectories: M episodes.

    Returns:
      float32 scalars, means over the episodes: `episode_return` (undiscounted), `episode_length`, and the sum of
      each of the environment's measures over an episode; `policy_entropy`, the mean over all steps; and
      `env_steps`, int32.
    """
    lengths = trajectories.mask.sum(axis=-1)

    def total(values: jax.Array) -> jax.Array:
        return jnp.where(trajectories.mask, values, 0).sum(axis=-1, dtype=jnp.float32)

    return {
        "episode_return": total(trajectories.rewards).mean(),
        "episode_length": jnp.mean(lengths, dtype=jnp.float32),
        "policy_entropy": total(trajectories.entropies).sum() / lengths.sum(),
        "env_steps": lengths.sum(dtype=jnp.int32),
    } | {name: total(values).mean() for name, values in trajectories.measures.items()}

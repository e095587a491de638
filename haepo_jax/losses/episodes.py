"""Episodes that lie one after the other in rows of steps, as environments give them that reset by themselves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.losses._arrays import as_flags, check_count


class SegmentEpisodes(NamedTuple):
    """Which steps of `[T, N]` belong to which episode; see `episodes_in_segment`."""

    where: jax.Array
    """`[N, E, T]` boolean, True for the steps of an environment's e-th episode."""
    complete: jax.Array
    """`[N, E]` boolean, True for the episodes that end within the segment."""
    num_episodes: jax.Array
    """`[N]` int32, the episodes that each environment's steps belong to, those beyond E included."""


def episodes_in_segment(done: ArrayLike, max_episodes: int) -> SegmentEpisodes:
    """Splits the steps that N environments played in T steps into episodes, with a mask for each.

    The mask is what `trajectory_log_likelihood` and the losses take as `where`, with N * E trajectories in a group:
    `where.reshape(N * E, T)` beside log-probabilities `jnp.repeat(log_probs.T, E, axis=0)`.

    Args:
      done: `[T, N]` boolean, True at a step after which an episode ended (terminated or cut) and another one begins.
      max_episodes: E, the most episodes of an environment that are told apart; later ones have no mask. T is enough
        for all.

    Returns:
      `SegmentEpisodes`. The first episode of an environment may have begun before the segment, and the last one may
      end after it, in which case it is not `complete`. An episode that there is not has a mask of False.

    Raises:
      ValueError: `done` has not the two axes `[T, N]`, or `max_episodes` is no whole number of at least 1.

    Example:
      >>> import jax.numpy as jnp
      >>> done = jnp.array([[False], [True], [False], [True], [False]])
      >>> episodes = episodes_in_segment(done, 3)
      >>> print(episodes.where[0].astype(int))
      [[1 1 0 0 0]
       [0 0 1 1 0]
       [0 0 0 0 1]]
      >>> print(episodes.complete[0], episodes.num_episodes)
      [ True  True False] [3]
    """
    done = as_flags("done", done)
    if done.ndim != 2:
        raise ValueError(f"done must have the shape [T, N], got {done.shape}.")
    max_episodes = check_count("max_episodes", max_episodes)
    ended = jnp.cumsum(done.T, axis=-1, dtype=jnp.int32)
    episode_of_step = ended - done.T
    places = jnp.arange(max_episodes, dtype=jnp.int32)
    where = episode_of_step[:, None, :] == places[None, :, None]
    num_steps, num_environments = done.shape
    if num_steps == 0:
        return SegmentEpisodes(where, jnp.zeros(where.shape[:-1], bool), jnp.zeros(num_environments, jnp.int32))
    return SegmentEpisodes(where, places[None] < ended[:, -1:], episode_of_step[:, -1] + 1)

"""Earlier batches whose episodes compete again with those of the newest one.

They are off-policy: a score such as `log_ratio` says of each episode how much likelier the trained policy makes it
than the policy that played it did.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from haepo_jax.methods import Group
from haepo_jax.types import Params

LogLikelihoods = Callable[[Params, Any], jax.Array]
"""`(params, batch) -> log-likelihoods [N]` of the batch's episodes, in nats."""


class Episodes(NamedTuple):
    """N episodes of a batch as they were sampled."""

    returns: jax.Array
    """`[N]`."""
    lengths: jax.Array
    """`[N]` integers."""
    behaviour_log_likelihoods: jax.Array
    """`[N]` in nats."""
    valid: jax.Array
    """`[N]` boolean, True for the episodes that there are."""
    persistences: jax.Array | None = None
    """`[N]` int32, steps for which their noise lasted, 0 where there is no episode; None without exploration."""


@flax.struct.dataclass
class History:
    """The H batches before the newest; the oldest is overwritten next."""

    batches: Any
    """`[H, ...]`, what log-likelihoods need of them."""
    episodes: Episodes
    """`[H, N]`."""
    oldest: jax.Array
    """int32, its place."""


def no_history(num_batches: int, batch: Any, episodes: Episodes) -> History:
    """Makes the history before the first update: H batches without an episode.

    Args:
      num_batches: H.
      batch: shapes of what is kept of a batch.
      episodes: shapes of its episodes.
    """
    batches, kept = jax.tree.map(lambda leaf: jnp.zeros((num_batches, *leaf.shape), leaf.dtype), (batch, episodes))
    return History(batches, kept, jnp.int32(0))


def remember(history: History, batch: Any, episodes: Episodes) -> History:
    """Puts a batch in the place of the oldest."""
    batches, kept = jax.tree.map(
        lambda every, leaf: jax.lax.dynamic_update_index_in_dim(every, leaf, history.oldest, axis=0),
        (history.batches, history.episodes),
        (batch, episodes),
    )
    return History(batches, kept, (history.oldest + 1) % history.episodes.returns.shape[0])


def join(newest: Episodes, history: History) -> Group:
    """Makes one group `[N (1 + H)]` of the newest batch and the earlier ones, which all compete."""
    every = jax.tree.map(_joined, newest, history.episodes)
    return Group(every.returns, every.lengths, every.behaviour_log_likelihoods, is_reused=True, valid=every.valid)


def join_log_likelihoods(
    newest: jax.Array, history: History, log_likelihoods: LogLikelihoods, params: Params
) -> jax.Array:
    """Computes the log-likelihoods `[N (1 + H)]` of the episodes that `join` puts together."""
    return _joined(newest, jax.lax.map(lambda batch: log_likelihoods(params, batch), history.batches))


def _joined(newest: jax.Array, earlier: jax.Array) -> jax.Array:
    return jnp.concatenate([newest, earlier.reshape(-1)])

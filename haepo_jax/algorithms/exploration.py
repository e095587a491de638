"""How often each persistence of the action noise is played: it follows what its episodes were worth.

That is the cross-entropy method over persistences: De Boer et al. (2005), "A tutorial on the cross-entropy method",
with weights in the place of an elite.
"""

import jax
import jax.numpy as jnp

from haepo_jax.config import ExplorationConfig
from haepo_jax.losses import target_log_weights

EXPLORATION_SHARE = "exploration_share"
"""The metric of an update some of whose episodes explore: `count_exploration`."""


def make_shares(settings: ExplorationConfig) -> jax.Array:
    """Makes the shares `[K]` that a member begins with: persistence 1 against all others, which are equal."""
    others = len(settings.persistences) - 1
    shares = jnp.full(others + 1, settings.max_share / others, jnp.float32)
    return _with_floor(shares.at[0].set(1 - settings.max_share), settings.floor)


def update_shares(
    settings: ExplorationConfig,
    shares: jax.Array,
    persistences: jax.Array,
    returns: jax.Array,
    earlier: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Moves the shares of exploring persistences, those above 1, by what the episodes were worth.

    - Where all returns are equal there is nothing to learn from: back to the first shares.
    - Where the best plain episode is as good as the best exploring one: towards 0.
    - Else towards the weights of their episodes, each of which has that of the Boltzmann target for its return.
      Those are the same for returns in any unit and from any zero.

    Args:
      settings: of the member; its numbers may be tracers.
      shares: `[K]`, before.
      persistences: of the episodes, any shape, in steps; 0 for one that was not played.
      returns: in the same shape.
      earlier: the same two of episodes of earlier batches that still compete; none by default.

    Returns:
      `[K]` float32; the same as before where a return has made no weights possible.
    """
    if earlier is not None:
        persistences, returns = (
            jnp.concatenate([newest.reshape(-1), before.reshape(-1)])
            for newest, before in zip((persistences, returns), earlier, strict=True)
        )
    played, values = persistences.reshape(-1), returns.reshape(-1)
    first = make_shares(settings)
    log_weights = target_log_weights(
        values, effective_sample_size=settings.target_effective_sample_size, where=played > 0
    )
    is_of = played == jnp.asarray(settings.persistences, jnp.int32)[:, None]
    mass = jnp.sum(jnp.where(is_of, jnp.exp(log_weights), 0), axis=-1, dtype=jnp.float32)
    best_plain, best_exploring = (jnp.max(values, initial=-jnp.inf, where=kind) for kind in (played == 1, played > 1))
    are_equal = jnp.max(values, initial=-jnp.inf, where=played > 0) == jnp.min(
        values, initial=jnp.inf, where=played > 0
    )
    towards = jnp.where(are_equal, first, jnp.where(best_plain >= best_exploring, 0, mass))[1:]
    exploring = (1 - settings.rate) * shares[1:] + settings.rate * towards
    exploring *= jnp.minimum(1, settings.max_share / jnp.maximum(exploring.sum(), 1e-6))
    moved = _with_floor(jnp.concatenate([1 - exploring.sum(keepdims=True), exploring]), settings.floor)
    return jnp.where(jnp.isfinite(mass).all() & jnp.isfinite(moved).all(), moved, shares)


def count_exploration(shares: jax.Array) -> jax.Array:
    """Computes the share of episodes whose noise lasts longer than a step."""
    return 1 - shares[0]


def _with_floor(shares: jax.Array, floor: jax.Array | float) -> jax.Array:
    """Brings shares to a sum of 1, each at least at the floor; those that are so already stay."""
    above = jnp.maximum(shares - floor, 0)
    total = above.sum()
    return floor + (1 - floor * shares.size) * above / jnp.where(total > 0, total, 1)

"""Actions drawn evenly at random, among those that are allowed."""

import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import Box, Environment, MultiDiscrete


def draw_action(environment: Environment, key: jax.Array, observation: jax.Array) -> jax.Array:
    """Draws an action: each allowed choice is as likely as the others, real numbers are even over their whole range.

    Args:
      environment: whose action it is.
      key: typed PRNG key.
      observation: `[*O]`, at whose end the action mask stands, where there is one. If it allows nothing, all is
        allowed.

    Returns:
      The action, as `Environment.step` takes it.

    Example:
      >>> from haepo_jax.environments import make
      >>> draw_action(make("CartPole-v1"), jax.random.key(0), jnp.zeros(4)).shape
      ()
    """
    space = environment.action_space
    if isinstance(space, Box):
        return jax.random.uniform(key, (space.size,), minval=-1.0, maxval=1.0)
    if not environment.mask_size:
        if isinstance(space, MultiDiscrete):
            return jax.random.randint(key, (len(space.nvec),), 0, jnp.array(space.nvec))
        return jax.random.randint(key, (), 0, space.n)
    mask = observation[observation.size - environment.mask_size :]
    if isinstance(space, MultiDiscrete):
        starts = [sum(space.nvec[:k]) for k in range(len(space.nvec))]
        keys = jax.random.split(key, len(space.nvec))
        chosen = [
            draw_allowed(own, mask[start : start + n]) for own, start, n in zip(keys, starts, space.nvec, strict=True)
        ]
        return jnp.stack(chosen)
    return draw_allowed(key, mask)


def draw_allowed(key: jax.Array, mask: jax.Array) -> jax.Array:
    """Draws one of the choices that a mask `[n]` of 0 and 1 allows, evenly; of all where it allows none."""
    logits = jnp.where((mask > 0.5) | ~jnp.any(mask > 0.5), 0.0, -jnp.inf)
    return jax.random.categorical(key, logits).astype(jnp.int32)

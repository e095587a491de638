"""Action noise that lasts for several steps, so that an episode sweeps where it would else tremble.

An episode of persistence l draws the noise of its actions every l steps and has it at all steps in between. At every
step the noise has the distribution that the policy draws it from; only successive steps are no longer independent.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from haepo_jax.networks import Policy

# What the key of an unroll is folded with. Its other uses split off what folding in 0 and 1 gives, and later rounds of
# a batch have 2.
_NOISE, _PERSISTENCES = 3, 4


def draw_noise(policy: Policy, key: jax.Array, persistences: jax.Array, time: jax.Array) -> jax.Array:
    """Draws the action noise of one step. It depends on key, episode and `time // persistence` alone.

    Args:
      policy: whose actions they are.
      key: typed PRNG key of the unroll.
      persistences: `[M]` int32, steps for which the noise of each episode lasts, at least 1.
      time: int32, the step.

    Returns:
      `[M, ...]` as `Policy.noise` gives it.
    """
    noise_key = jax.random.fold_in(key, _NOISE)

    def draw(episode: jax.Array, block: jax.Array) -> jax.Array:
        return policy.noise(jax.random.fold_in(jax.random.fold_in(noise_key, episode), block), ())

    return jax.vmap(draw)(jnp.arange(persistences.size), time // persistences)


def draw_persistences(key: jax.Array, choices: Sequence[int], shares: jax.Array, num_episodes: int) -> jax.Array:
    """Draws the persistences of episodes, by systematic sampling: each is played as often as its share says, to one.

    Drawn one by one, their numbers would by chance alone drift to one of them where all are worth the same.

    Args:
      key: typed PRNG key of the unroll.
      choices: K persistences, in steps.
      shares: `[K]`, which sum to 1.
      num_episodes: M.

    Returns:
      `[M]` int32, in the order of the choices.

    Example:
      >>> print(draw_persistences(jax.random.key(0), (1, 4, 16), jnp.array([0.5, 0.25, 0.25]), 8))
      [ 1  1  1  1  4  4 16 16]

    Source: Kitagawa (1996), "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models".
    """
    start = jax.random.uniform(jax.random.fold_in(key, _PERSISTENCES))
    places = (jnp.arange(num_episodes) + start) / num_episodes
    chosen = jnp.sum(places[:, None] >= jnp.cumsum(shares)[:-1], axis=-1)
    return jnp.asarray(choices, jnp.int32)[chosen]

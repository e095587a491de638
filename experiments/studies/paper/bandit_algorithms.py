"""The regret of textbook bandit algorithms: UCB1 and Thompson sampling, one pull at a time."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.environments import bernoulli_arm_means, gaussian_arm_means


class Counts(NamedTuple):
    """The pulls of K arms so far."""

    pulls: jax.Array
    """`[K]`."""
    rewards: jax.Array
    """`[K]` their sums."""


Rule = Callable[[jax.Array, Counts, jax.Array], jax.Array]
"""`(key, counts, pulls so far) -> arm`."""


def _ucb1(key: jax.Array, counts: Counts, time: jax.Array) -> jax.Array:
    """Auer et al. (2002): the mean and a bonus of sqrt(2 ln t / n); an arm that was never pulled comes first."""
    del key
    tried = jnp.maximum(counts.pulls, 1)
    bonus = jnp.sqrt(2 * jnp.log(jnp.maximum(time, 1)) / tried)
    return jnp.argmax(jnp.where(counts.pulls == 0, jnp.inf, counts.rewards / tried + bonus))


def _thompson_gaussian(key: jax.Array, counts: Counts, time: jax.Array) -> jax.Array:
    """A draw from each arm's posterior, from the prior N(0, 1) that the arms are drawn from and unit noise."""
    del time
    precision = counts.pulls + 1
    return jnp.argmax(counts.rewards / precision + jax.random.normal(key, precision.shape) / jnp.sqrt(precision))


def _thompson_bernoulli(key: jax.Array, counts: Counts, time: jax.Array) -> jax.Array:
    """A draw from each arm's posterior, from a uniform prior."""
    del time
    return jnp.argmax(jax.random.beta(key, counts.rewards + 1, counts.pulls - counts.rewards + 1))


RULES: dict[str, dict[str, Rule]] = {
    "GaussianBandit-haepo": {"UCB1": _ucb1, "Thompson sampling": _thompson_gaussian},
    "BernoulliBandit-haepo": {"UCB1": _ucb1, "Thompson sampling": _thompson_bernoulli},
}


def measure_regrets(
    env: str, rule: str, *, num_arms: int, pulls: int, instances: Sequence[int], seeds: int
) -> np.ndarray:
    """Plays a bandit algorithm.

    Args:
      env: the bandit, a key of `RULES`.
      rule: its algorithm, by name.
      num_arms: K.
      pulls: of each run.
      instances: which bandits.
      seeds: runs on each.

    Returns:
      `[instances, seeds, pulls]` expected regret of each pull: the best arm's mean less the pulled arm's.
    """
    play = jax.jit(
        jax.vmap(jax.vmap(functools.partial(_play, env, RULES[env][rule], num_arms, pulls), (None, 0)), (0, None))
    )
    return np.asarray(play(jnp.asarray(instances, jnp.int32), jax.random.split(jax.random.key(0), seeds)))


def _play(env: str, rule: Rule, num_arms: int, pulls: int, instance: jax.Array, key: jax.Array) -> jax.Array:
    gaussian = env.startswith("Gaussian")
    means = (gaussian_arm_means if gaussian else bernoulli_arm_means)(instance, num_arms)
    key = jax.random.fold_in(key, instance)

    def pull(counts: Counts, time: jax.Array) -> tuple[Counts, jax.Array]:
        choose_key, reward_key = jax.random.split(jax.random.fold_in(key, time))
        arm = rule(choose_key, counts, time)
        if gaussian:
            reward = means[arm] + jax.random.normal(reward_key)
        else:
            reward = jax.random.bernoulli(reward_key, means[arm]).astype(jnp.float32)
        counts = Counts(counts.pulls.at[arm].add(1.0), counts.rewards.at[arm].add(reward))
        return counts, means.max() - means[arm]

    zeros = jnp.zeros((num_arms,), jnp.float32)
    return jax.lax.scan(pull, Counts(zeros, zeros), jnp.arange(pulls))[1]

"""What the tests of environments share: playing episodes, exact bounds on counts, sentences of refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from haepo_jax.errors import ConfigError


def play(environment, choose, *, params=None, episodes=1, steps=None, seed=0):
    """Plays on beyond the ends of episodes; each result is `[episodes, steps, ...]`, the state that of after.

    `choose` is `(observation, key) -> action`.
    """
    params = params or {}

    def episode(key):
        reset_key, step_key = jax.random.split(key)
        start = environment.reset(params, reset_key)

        def step(carry, t):
            act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
            action = choose(carry[1], act_key)
            after = environment.step(params, env_key, carry[0], action)
            return (after.state, after.observation), (after, action)

        return jax.lax.scan(step, start, jnp.arange(steps or environment.max_steps))[1]

    return jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(seed), episodes))


def uniform(environment):
    """Takes each action equally often."""
    return lambda observation, key: jax.random.randint(key, (), 0, environment.action_space.n)


def always(action):
    return lambda observation, key: jnp.int32(action)


def assert_binomial(count, trials, probability):
    """Holds unless the count is one that the true probability gives less than once in a million."""
    low, high = stats.binom.interval(1 - 1e-6, trials, probability)
    assert low <= count <= high, f"{count} of {trials} at {probability}, expected {low} to {high}"


def chance_of_goal(length, steps, forward):
    """Probability that a walk from 0, staying at 0 when it goes back, is at `length` within so many steps."""
    chance = np.zeros(length + 1)
    chance[0] = 1
    for _ in range(steps):
        after = np.zeros_like(chance)
        after[-1] = chance[-1]
        after[1:] += forward * chance[:-1]
        after[:-2] += (1 - forward) * chance[1:-1]
        after[0] += (1 - forward) * chance[0]
        chance = after
    return chance[-1]


def steps_to_goal(length, forward):
    """Expected number of steps of the same walk, from its linear equations."""
    equations = np.eye(length)
    for position in range(length):
        equations[position, max(position - 1, 0)] -= 1 - forward
        if position + 1 < length:
            equations[position, position + 1] -= forward
    return np.linalg.solve(equations, np.ones(length))[0]


def refusal(call, *args):
    """The sentence with which `call` refuses."""
    with pytest.raises(ConfigError) as refused:
        call(*args)
    return str(refused.value)

"""What the tests of play share: small environments that can be counted by hand, and who plays them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from helpers.policies import mlp_policy

from haepo_jax.environments import Discrete, Environment, make
from haepo_jax.environments.interface import Step
from haepo_jax.rollouts.episodes import collect

M, T = 16, 8
LONGEST = 5


class Count(NamedTuple):
    steps: jax.Array
    length: jax.Array


def observe(state):
    """Steps done, length of the episode."""
    return jnp.stack([state.steps, state.length]).astype(jnp.float32)


def reset(params, key):
    """An episode whose length is drawn from the key."""
    state = Count(jnp.int32(0), jax.random.randint(key, (), 1, LONGEST + 1))
    return state, observe(state)


@functools.cache
def counter(action_space=Discrete(3)):  # noqa: B008
    """Observes (steps done, length of the episode), drawn from the key; the reward of step t is 10^t.

    Its measure is the reward doubled. Ends by itself, and says so, when the length is even.
    """

    def step(params, key, state, action):
        after = Count(state.steps + 1, state.length)
        reward, done = params.get("scale", 1.0) * 10.0**state.steps, after.steps == state.length
        return Step(after, observe(after), reward, done, done & (state.length % 2 == 0), {"double": 2 * reward})

    return Environment("counter", (2,), action_space, LONGEST, {"scale": 1.0}, ("double",), reset, step)


@functools.cache
def quitter():
    """Ends at the first action 0. Its observation is 0, where the policy is uniform."""

    def reset(params, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(params, key, state, action):
        return Step(state, jnp.zeros(1), jnp.float32(1), action == 0, action == 0, {})

    return Environment("quitter", (1,), Discrete(3), 100, {}, (), reset, step)


@functools.cache
def policy_for(environment):
    return mlp_policy(environment.observation_shape, environment.action_space)


@functools.cache
def _init(policy):
    """In one program: step by step, each shape compiles its own."""

    def init(key):
        noise = jax.random.key(9)
        return jax.tree.map(
            lambda leaf: leaf + (leaf.ndim == 2) * jax.random.normal(noise, leaf.shape), policy.init(key)
        )

    return jax.jit(init)


def params_for(policy, seed=0):
    """Parameters of a policy whose actions depend on what it observes."""
    return _init(policy)(jax.random.key(seed))


@functools.cache
def player(environment, num_trajectories=M, horizon=T, greedy=False):
    """`(params, key) -> trajectories`, compiled once for all tests."""
    policy = policy_for(environment)
    options = {"num_trajectories": num_trajectories, "horizon": horizon, "greedy": greedy}
    return jax.jit(lambda params, key: collect(environment, policy, params, key, **options))


def play(environment, seed=0, **options):
    return player(environment, **options)(params_for(policy_for(environment)), jax.random.key(seed))


def play_cartpole(horizon=24):
    return play(make("CartPole-v1"), num_trajectories=8, horizon=horizon)

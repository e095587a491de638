"""Policies that remember: in every memory mode the gradient is that of one unroll, step by step, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.policies import mlp_policy

from haepo_jax.algorithms import recompute, replay
from haepo_jax.environments import Discrete, Environment
from haepo_jax.environments.interface import Step
from haepo_jax.rollouts.episodes import EpisodeUnroll, Trajectories, collect
from haepo_jax.rollouts.packed import collect_rounds
from haepo_jax.rollouts.rounds import RoundBounds, Rounds

M, T = 3, 53
KEY = jax.random.key(5)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def policy_of(network):
    """A small policy, all in float64."""
    policy = mlp_policy((2,), Discrete(3), network=network, hidden_sizes=(5, 4))
    carry = jax.tree.map(lambda leaf: leaf.astype(np.float64), policy.recurrence.start())
    return policy._replace(recurrence=policy.recurrence._replace(start=lambda: carry))


def params_of(policy, seed=0):
    key = jax.random.key(seed)
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) + 0.5 * jax.random.normal(key, leaf.shape, jnp.float64), policy.init(key)
    )


def one_by_one(policy, params, observations, actions, resets):
    """The log-probabilities of one unroll, a step at a time."""

    def one(carry, seen):
        observation, action, begins = seen
        carry = jax.tree.map(lambda old, first: jnp.where(begins[:, None], first, old), carry, policy.start(M))
        carry, distribution = policy.step(params, carry, observation)
        return carry, distribution.log_prob(action)

    by_time = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (observations, actions, resets))
    return jax.lax.scan(one, policy.start(M), by_time)[1].T


def weighted(log_probs, mask):
    """A scalar in which every step has a weight of its own."""
    return jnp.sum(jnp.where(mask, jnp.sin(jnp.arange(mask.size)).reshape(mask.shape) * log_probs, 0))


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12 * max(1.0, float(jnp.abs(b).max())))


@pytest.mark.parametrize(
    "network",
    ["gru", pytest.param("lstm", marks=pytest.mark.slow), pytest.param("flax.linen:MGUCell", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("longest", [T, *(pytest.param(longest, marks=pytest.mark.slow) for longest in (43, 1))])
def test_replay_in_pieces_and_at_once_is_one_unroll_with_its_gradient(network, longest):
    policy, rng = policy_of(network), np.random.default_rng(0)
    params, lengths = params_of(policy), np.array([longest, max(1, longest - 9), 1])
    mask = jnp.asarray(np.arange(T) < lengths[:, None])
    begins = jnp.asarray(rng.random((M, T)) < 0.1)
    batch = Trajectories(
        jnp.asarray(rng.normal(size=(M, T, 2))),
        jnp.asarray(rng.integers(0, 3, (M, T))),
        *(jnp.zeros((M, T)),) * 2,
        mask,
        jnp.zeros((M, T)),
    )
    resets = begins | ~mask

    @jax.jit
    def gradients(params):
        def of(log_probs):
            return jax.value_and_grad(lambda params: weighted(log_probs(params), mask))(params)

        given = {"resets": resets}
        return (
            of(lambda params: one_by_one(policy, params, batch.observations, batch.actions, resets)),
            of(lambda params: replay.log_probs(policy, params, batch, **given)),
            of(lambda params: replay.log_probs_at_once(policy, params, batch, **given)),
            of(lambda params: replay.log_probs(policy, params, batch, fresh=True, **given)),
        )

    expected, in_pieces, at_once, fresh = gradients(params)
    assert_close(in_pieces, expected)
    assert_close(at_once, expected)
    assert fresh[0] == 0
    assert_close(fresh[1], expected[1])


def reset(params, key):
    state = (jnp.int32(0), jax.random.randint(key, (), 1, 41, jnp.int32), jnp.int32(0))
    return state, _observe(state)


def step(params, key, state, action):
    after = (state[0] + 1, state[1], action.astype(jnp.int32))
    done = after[0] == after[1]
    return Step(after, _observe(after), _observe(after)[0], done, done, {})


def _observe(state):
    """What was done last, and a number that only the memory of how much time has passed could tell."""
    return jnp.stack([state[2], state[0] * state[1] % 7]).astype(jnp.float32)


ENVIRONMENT = Environment("walk", (2,), Discrete(3), 40, {}, (), reset, step)


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [37, 20])
@pytest.mark.parametrize("in_rounds", [False, True], ids=["episodes", "rounds"])
def test_episodes_played_again_have_the_gradient_of_one_unroll(horizon, in_rounds):
    policy = policy_of("gru")
    params, other = params_of(policy), params_of(policy, seed=1)

    def make_unroll(params, key, env_params, shares):
        unroll = EpisodeUnroll(ENVIRONMENT, policy, params, key, M, horizon, env_params)
        return Rounds(unroll, RoundBounds(M, horizon, 100, None)) if in_rounds else unroll

    @jax.jit
    def both(params, other):
        played = recompute.play(make_unroll, policy, params, KEY, {}, discount=1.0, reference=other, exploration=None)
        if in_rounds:
            packed = collect_rounds(make_unroll(params, KEY, {}, None))
            kept, resets, sums = packed.steps, packed.resets, packed.sum_over_steps
        else:
            kept = collect(ENVIRONMENT, policy, params, KEY, num_trajectories=M, horizon=horizon)
            resets, sums = kept.resets, lambda values: jnp.where(kept.mask, values, 0).sum(axis=1)

        def of(log_likelihoods):
            def loss(params):
                found = log_likelihoods(params)
                return jnp.sum(jnp.sin(1 + jnp.arange(found.size)) * found.reshape(-1)), found

            return jax.value_and_grad(loss, has_aux=True)(other)

        expected = of(lambda params: sums(one_by_one(policy, params, kept.observations, kept.actions, resets)))
        again = of(lambda params: recompute.log_likelihoods(make_unroll, policy, params, played))
        at_play = sums(one_by_one(policy, params, kept.observations, kept.actions, resets))
        return expected, again, (played.stats.log_likelihoods, at_play), played.reference_log_likelihoods

    ((_, expected), gradient), ((_, again), recomputed), (seen, at_play), judged = both(params, other)
    np.testing.assert_allclose(again, expected, rtol=1e-6)  # log-likelihoods are float32
    np.testing.assert_allclose(judged, expected, rtol=1e-6)
    np.testing.assert_allclose(seen, at_play, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(recomputed), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * float(jnp.abs(b).max()))

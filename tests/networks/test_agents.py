"""Networks of several agents see what they are to see, and each agent has its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import assert_allclose

from haepo_jax.config import PolicyConfig
from haepo_jax.environments import Box, Discrete, MultiDiscrete
from haepo_jax.environments.interface import ObservationParts
from haepo_jax.networks import get_seen_shape, make_one_each, make_policy, make_torso, make_value, see_as_agent

PARTS = ObservationParts((2, 3), world_size=4, number_size=3, mask_size=5)
ROW = jnp.concatenate([jnp.arange(6.0), jnp.arange(4.0) + 10, jnp.eye(3)[1], jnp.ones(5)])


def make_probe():
    """A value function that gives back what it sees, summed with other weights at each place."""
    from haepo_jax.networks import Value

    return Value(lambda key: 0, lambda params, seen: jnp.sum(seen.reshape(seen.shape[0], -1), axis=-1))


@pytest.mark.parametrize(
    ("sees_number", "sees_world", "shape", "total"),
    [(False, False, (2, 3), 15), (True, False, (9,), 16), (False, True, (4,), 46), (True, True, (7,), 47)],
)
def test_a_value_function_sees_its_parts_and_no_mask(sees_number, sees_world, shape, total):
    seen = {"sees_number": sees_number, "sees_world": sees_world}
    assert get_seen_shape(PARTS, **seen) == shape
    assert see_as_agent(make_probe(), PARTS, **seen).apply(0, ROW[None]).tolist() == [total]


def test_a_policy_sees_its_own_part_and_its_mask_and_not_the_world():
    torso = make_torso(PolicyConfig(hidden_sizes=(4,)), (9,))
    inner = make_policy((9,), Discrete(5), make_torso=torso, initial_log_std=0.0, mask_size=5)
    policy = see_as_agent(inner, PARTS, sees_number=True)
    rows = np.tile(np.asarray(ROW), (5, 1))
    rows[1, 6:10], rows[2, -1], rows[3, 0], rows[4, 10:13] = -3.0, 0.0, 7.0, (0, 0, 1)
    plain, other_world, masked, other_own, other_number = jax.jit(
        lambda key: policy.apply(policy.init(key), rows).probs
    )(jax.random.key(0))
    np.testing.assert_array_equal(plain, other_world)
    assert masked[-1] == 0 < plain[-1]
    assert not np.allclose(plain, other_own) and not np.allclose(plain, other_number)


def assert_same(one, other):
    for found, wanted in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "space", [Box(2), *(pytest.param(space, marks=pytest.mark.slow) for space in (MultiDiscrete((3, 2)), Discrete(3)))]
)
def test_each_agent_has_a_network_of_its_own(space):
    parts = ObservationParts((2,), number_size=3)
    torso = make_torso(PolicyConfig(hidden_sizes=(4,)), (2,))
    inner = see_as_agent(make_policy((2,), space, make_torso=torso, initial_log_std=0.0), parts, sees_number=False)
    policy = make_one_each(inner, parts, (0, 1, 0))
    params = policy.init(jax.random.key(0))
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(params))
    rows = jnp.concatenate([jax.random.normal(jax.random.key(1), (4, 3, 2)), jnp.tile(jnp.eye(3), (4, 1, 1))], axis=-1)

    @jax.jit
    def measure(params):
        found = policy.apply(params, rows)
        assert found.batch_shape == (4, 3)
        actions = policy.act(found, policy.noise(jax.random.key(2), (4, 3)))
        owns = [
            inner.apply(jax.tree.map(lambda leaf, k=which: leaf[k], params), rows[:, agent])
            for agent, which in enumerate((0, 1, 0))
        ]
        by_itself = [(own.log_prob(actions[:, agent]), own.entropy()) for agent, own in enumerate(owns)]
        return (found.log_prob(actions), found.entropy()), by_itself

    found, by_itself = measure(params)
    for agent, own in enumerate(by_itself):
        assert_same([values[:, agent] for values in found], own)


@pytest.mark.slow
def test_each_agent_remembers_by_its_own_network():
    parts = ObservationParts((2,), number_size=2)
    torso = make_torso(PolicyConfig(network="gru", hidden_sizes=(3, 4)), (2,))
    inner = see_as_agent(make_value((2,), make_torso=torso), parts, sees_number=False)
    value = make_one_each(inner, parts, (0, 1))
    params = value.init(jax.random.key(0))
    seen = jax.random.normal(jax.random.key(1), (2, 5, 2))
    rows = jnp.concatenate([seen, jnp.repeat(jnp.eye(2)[:, None], 5, axis=1)], axis=-1)
    resets = jnp.zeros((2, 5), bool).at[1, 2].set(True)
    unroll = functools.partial(value.unroll_with_next, next_observations=rows, resets=resets)
    found = unroll(params, value.start(2), rows)
    plain = value.unroll(params, value.start(2), rows, resets)
    assert_same(plain, found[:2])
    for agent in range(2):
        own = jax.tree.map(lambda leaf, k=agent: leaf[k], params)
        wanted = inner.unroll_with_next(
            own, inner.start(1), rows[agent : agent + 1], rows[agent : agent + 1], resets[agent : agent + 1]
        )
        assert_same(jax.tree.map(lambda leaf, k=agent: leaf[k : k + 1], found), wanted)

"""gymnax environments behind the package's interface: shapes, dtypes, action bounds, ends of episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_structure

from haepo_jax.environments import Box, Discrete, environment_names, make
from haepo_jax.errors import ConfigError

DOWNLOADS = {"MNISTBandit-bsuite"}
SLOW_TO_COMPILE = {"Freeway-MinAtar", "Seaquest-MinAtar"}
NUM_ENVS = 2


def environments(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW_TO_COMPILE else ()) for name in names]


ALL = environments(name for name in environment_names() if name not in DOWNLOADS)
REAL_ACTIONS = environments(["MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc"])


def actions_for(environment):
    """The last action, or the middle of the range."""
    if isinstance(environment.action_space, Discrete):
        return jnp.full((NUM_ENVS,), environment.action_space.n - 1, jnp.int32)
    return jnp.zeros((NUM_ENVS, environment.action_space.size))


def types_of(tree):
    """Everything that a compiled program depends on."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("name", ALL)
def test_resets_and_steps_under_jit_and_vmap_with_one_compilation(name):
    environment = make(name)
    traced = []

    @jax.jit
    def step(keys, states, actions):
        traced.append(name)
        return jax.vmap(environment.step)(keys, states, actions)

    keys = jax.random.split(jax.random.key(0), NUM_ENVS)
    states, observations = jax.vmap(environment.reset)(keys)
    after = step(keys, states, actions_for(environment))
    again = step(keys, after.state, actions_for(environment))

    assert environment.name == name and environment.max_steps >= 1
    assert observations.shape == (NUM_ENVS, environment.observation_size)
    assert types_of(states) == types_of(after.state) == types_of(again.state)
    assert tree_structure(states) == tree_structure(after.state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((states, after)))
    assert len(traced) == 1
    for values in (observations, after.observation, again.observation):
        assert values.shape == observations.shape and values.dtype == jnp.float32
        assert np.isfinite(values).all()
    for result in (after, again):
        assert result.reward.shape == (NUM_ENVS,) and result.reward.dtype == jnp.float32
        assert result.done.shape == (NUM_ENVS,) and result.done.dtype == bool
        assert np.isfinite(result.reward).all()


def test_one_environment_has_the_shapes_of_the_interface():
    environment = make("CartPole-v1")
    state, observation = environment.reset(jax.random.key(0))
    after = environment.step(jax.random.key(0), state, jnp.int32(1))
    assert observation.shape == after.observation.shape == (4,)
    assert after.reward.shape == after.done.shape == ()


class TestMake:
    def test_returns_the_same_object_at_every_call(self):
        assert make("CartPole-v1") is make("CartPole-v1")
        assert make("CartPole-v1") is not make("Acrobot-v1")

    def test_refuses_an_unknown_id_and_names_the_near_ones(self):
        with pytest.raises(ConfigError, match="env 'CartPole-v2' is not known; did you mean CartPole-v1"):
            make("CartPole-v2")

    def test_refuses_an_id_unlike_any_and_lists_them_all(self):
        with pytest.raises(ConfigError, match=f"allowed: .*{', .*'.join(environment_names()[:3])}"):
            make("###")

    @pytest.mark.parametrize(
        ("name", "observation_size", "action_space", "max_steps"),
        [
            ("CartPole-v1", 4, Discrete(2), 500),
            ("Pendulum-v1", 3, Box(1), 200),
            ("Catch-bsuite", 50, Discrete(3), 1000),
            ("Reacher-misc", 8, Box(2), 100),
        ],
    )
    def test_knows_the_sizes(self, name, observation_size, action_space, max_steps):
        environment = make(name)
        assert environment.observation_size == observation_size
        assert environment.action_space == action_space
        assert environment.max_steps == max_steps


class TestActions:
    @staticmethod
    def torque(action):
        environment = make("Pendulum-v1")
        state, _ = environment.reset(jax.random.key(0))
        return environment.step(jax.random.key(0), state, jnp.array([action])).state.last_u

    @pytest.mark.parametrize(("action", "torque"), [(-1.0, -2.0), (0.0, 0.0), (0.25, 0.5), (1.0, 2.0)])
    def test_in_the_unit_range_span_the_bounds_of_the_environment(self, action, torque):
        np.testing.assert_allclose(self.torque(action), torque, rtol=1e-6)

    @pytest.mark.parametrize(("action", "torque"), [(-7.0, -2.0), (1.5, 2.0), (jnp.inf, 2.0)])
    def test_beyond_the_unit_range_are_clipped(self, action, torque):
        np.testing.assert_allclose(self.torque(action), torque, rtol=1e-6)

    @pytest.mark.parametrize("name", REAL_ACTIONS)
    def test_beyond_the_unit_range_do_as_its_edge_does(self, name):
        environment = make(name)
        state, _ = environment.reset(jax.random.key(0))
        step = jax.jit(lambda action: environment.step(jax.random.key(1), state, action))
        high, beyond, low = (step(jnp.full(environment.action_space.size, a)) for a in (1.0, 5.0, -1.0))
        jax.tree.map(np.testing.assert_array_equal, high, beyond)
        assert not np.array_equal(high.observation, low.observation)


class TestObservations:
    def test_of_a_discrete_kind_are_one_hot(self):
        environment = make("FrozenLake-misc")
        state, first = environment.reset(jax.random.key(0))
        seen = {tuple(first.tolist())}
        for action in (1, 1, 2):
            step = environment.step(jax.random.key(0), state, jnp.int32(action))
            state = step.state
            seen.add(tuple(step.observation.tolist()))
        assert len(first) == 16 and len(seen) > 1
        assert all(sorted(observation) == [0.0] * 15 + [1.0] for observation in seen)

    def test_of_several_axes_are_flattened_in_order(self):
        environment = make("Catch-bsuite")
        state, observation = environment.reset(jax.random.key(0))
        board = observation.reshape(10, 5)
        assert board[state.ball_y, state.ball_x] == 1 and board[state.paddle_y, state.paddle_x] == 1
        assert observation.sum() == 2


class TestEndOfEpisode:
    def test_does_not_reset_by_itself(self):
        environment = make("CartPole-v1")
        start, _ = environment.reset(jax.random.key(0))

        def step(state, _):
            after = environment.step(jax.random.key(0), state, jnp.int32(1))
            return after.state, (after.done, after.state.time, after.observation)

        _, (done, time, observations) = jax.jit(lambda state: jax.lax.scan(step, state, length=30))(start)
        end = int(np.argmax(done))
        assert 0 < end < 20 and done[end]
        np.testing.assert_array_equal(time, np.arange(1, 31))
        assert np.abs(observations[end + 1]).max() > 0.2  # a fresh start is within 0.05

    def test_comes_with_the_time_limit_of_the_environment(self):
        environment = make("Pendulum-v1")
        start, _ = environment.reset(jax.random.key(0))

        def step(state, _):
            after = environment.step(jax.random.key(0), state, jnp.zeros(1))
            return after.state, after.done

        _, done = jax.jit(lambda state: jax.lax.scan(step, state, length=environment.max_steps))(start)
        assert np.flatnonzero(done).tolist() == [environment.max_steps - 1]


def test_keys_decide_the_start():
    reset = jax.jit(make("CartPole-v1").reset)
    first, same, other = (reset(jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)

"""The random walk: its moves by hand, in NumPy and by dynamic programming, its goal and its time limit."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.play import always, assert_binomial, chance_of_goal, play, steps_to_goal, uniform

from haepo_jax.environments import Discrete, make

NAME = "RandomWalk-haepo"
LEFT, RIGHT = 0, 1


@pytest.mark.parametrize(
    ("position", "action", "after", "reward"),
    [(0, LEFT, 0, 0), (0, RIGHT, 1, 0), (1, LEFT, 0, 0), (3, LEFT, 2, 0), (3, RIGHT, 4, 0), (4, RIGHT, 5, 1)],
)
def test_moves_by_hand(position, action, after, reward):
    environment = make(NAME)
    params = {"length": 5}
    state, _ = environment.reset(params, jax.random.key(0))
    for slip in (0.0, 1.0):
        # A walk that always slips is the walk with its actions exchanged.
        taken = action if slip == 0.0 else 1 - action
        step = environment.step(
            params | {"slip": slip}, jax.random.key(1), state.replace(position=jnp.int32(position)), jnp.int32(taken)
        )
        assert step.state.position == after and step.state.time == 1
        np.testing.assert_array_equal(step.observation, np.array([after / 5], np.float32))
        assert step.reward == reward == step.info_metrics["success"]
        assert step.terminated == step.done == bool(reward)


def test_follows_the_actions_as_a_walk_in_numpy_does():
    environment = make(NAME)
    after, actions = play(environment, uniform(environment), params={"length": 9}, episodes=8, steps=200)
    arrived = 0
    for episode, taken in enumerate(np.asarray(actions)):
        position = 0
        for t, action in enumerate(taken):
            position = max(position - 1, 0) if action == LEFT else position + 1
            assert after.state.position[episode, t] == position
            assert after.observation[episode, t, 0] == np.float32(position / 9)
            assert after.reward[episode, t] == after.terminated[episode, t] == (position == 9)
            if position == 9:
                arrived += 1
                break
    assert arrived >= 6


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_the_walk_slips_with_the_given_chance(slip):
    # Far from both ends each move shows whether it slipped.
    environment = make(NAME)
    state, _ = environment.reset({}, jax.random.key(0))
    state = state.replace(position=jnp.int32(25))
    keys = jax.random.split(jax.random.key(2), 5000)
    for action, direction in ((LEFT, -1), (RIGHT, 1)):
        step = jax.vmap(lambda key, action=action: environment.step({"slip": slip}, key, state, jnp.int32(action)))
        moves = np.asarray(step(keys).state.position) - 25
        assert set(np.unique(moves)) <= {-1, 1}
        assert_binomial(int((moves == -direction).sum()), 5000, slip)


class TestChanceOfSuccess:
    def test_the_uniform_policys_chance_of_success_is_the_documented_one(self):
        assert round(100 * chance_of_goal(length=50, steps=500, forward=0.5), 3) == 4.786

    @pytest.mark.slow
    @pytest.mark.parametrize("params", [{}, {"length": 20}, {"length": 30, "slip": 0.25}])
    def test_the_uniform_policys_chance_of_success_is_that_of_dynamic_programming(self, params):
        environment = make(NAME)
        after, _ = play(environment, uniform(environment), params=params, episodes=4000)
        successes = int(after.terminated.any(axis=1).sum())
        assert_binomial(successes, 4000, chance_of_goal(params.get("length", 50), environment.max_steps, 0.5))

    @pytest.mark.parametrize(
        ("slip", "episodes"),
        [(0.45, 400), *(pytest.param(slip, 2000, marks=pytest.mark.slow) for slip in (0.45, 0.48))],
    )
    def test_the_chance_of_success_on_slippery_ground_is_that_of_dynamic_programming(self, slip, episodes):
        environment = make(NAME)
        after, _ = play(environment, always(RIGHT), params={"slip": slip}, episodes=episodes)
        assert_binomial(int(after.terminated.any(axis=1).sum()), episodes, chance_of_goal(50, 500, 1 - slip))


class TestEpisode:
    def test_an_episode_ends_at_the_goal_with_the_one_reward(self):
        after, _ = play(make(NAME), always(RIGHT), steps=50)
        expected = [False] * 49 + [True]
        assert after.terminated[0].tolist() == after.done[0].tolist() == expected
        assert (
            after.reward[0].tolist() == after.info_metrics["success"][0].tolist() == [float(end) for end in expected]
        )
        assert steps_to_goal(50, 1.0) == 50

    def test_an_episode_that_never_arrives_is_cut_not_terminated(self):
        after, _ = play(make(NAME), always(LEFT))
        assert np.flatnonzero(after.done[0]).tolist() == [499]
        assert not after.terminated.any() and not after.reward.any() and not after.info_metrics["success"].any()

    def test_an_episode_that_arrives_with_the_last_step_is_terminated(self):
        after, _ = play(make(NAME), always(RIGHT), params={"length": 500})
        assert np.flatnonzero(after.terminated[0]).tolist() == np.flatnonzero(after.done[0]).tolist() == [499]
        assert after.reward[0, 499] == 1

    def test_an_episode_of_length_0_is_that_of_length_1(self):
        after, _ = play(make(NAME), always(RIGHT), params={"length": 0}, steps=1)
        assert after.observation.tolist() == [[[1.0]]] and after.terminated.all()

    def test_an_episode_repeats_with_its_key_alone(self):
        environment = make(NAME)
        first, same, other = (
            play(environment, always(RIGHT), params={"slip": 0.4}, seed=seed)[0] for seed in (0, 0, 1)
        )
        jax.tree.map(np.testing.assert_array_equal, first, same)
        assert not np.array_equal(first.state.position, other.state.position)


def test_has_the_documented_sizes():
    environment = make(NAME)
    assert environment.params == {"length": 50, "slip": 0.0}
    assert environment.observation_shape == (1,) and environment.max_steps == 500
    assert environment.action_space == Discrete(2) and environment.info_metrics == ("success",)


def test_of_many_lengths_compiles_once_each_member_with_its_own():
    environment = make(NAME)
    traced = []

    @jax.jit
    def arrivals(lengths):
        traced.append(lengths)

        def one(length):
            after, _ = play(environment, always(RIGHT), params={"length": length}, steps=20)
            return jnp.argmax(after.terminated[0]) + 1

        return jax.vmap(one)(lengths)

    for lengths in ([1, 5, 20], [2, 3, 4]):
        assert arrivals(jnp.array(lengths)).tolist() == lengths
    assert len(traced) == 1


def test_the_random_walk_is_played_by_gymnax():
    env, params = gymnax.make(NAME)
    params = params.replace(length=2)
    assert env.name == NAME and env.num_actions == 2
    observation, state = env.reset(jax.random.key(0), params)
    assert env.observation_space(params).contains(observation)
    observation, state, reward, terminated, truncated, info = env.step(jax.random.key(1), state, RIGHT, params)
    assert (observation.tolist(), reward, terminated, truncated) == ([0.5], 0, False, False)
    assert env.state_space(params).spaces["position"].contains(state.position)
    observation, state, reward, terminated, truncated, info = env.step(jax.random.key(2), state, RIGHT, params)
    assert (reward, terminated, truncated, info["success"], info["discount"]) == (1, True, False, 1, 0)
    # It starts afresh by itself.
    assert observation.tolist() == [0.0] and state.position == 0 and info["final_observation"].tolist() == [1.0]

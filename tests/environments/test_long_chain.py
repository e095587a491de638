"""The long chain: its cues, its moves by hand and in NumPy, the policies with and without the cue."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.play import always, assert_binomial, chance_of_goal, play, refusal, steps_to_goal, uniform

from haepo_jax.environments import Discrete, make
from haepo_jax.environments.long_chain import cue

NAME = "LongChain-haepo"


def follow(observation, key):
    """Does as the cue says."""
    return jnp.int32(observation[1] > 0)


def oppose(observation, key):
    return jnp.int32(observation[1] < 0)


class TestCue:
    CELLS = jnp.arange(100)

    def test_the_cue_is_a_fixed_sign_for_each_cell(self):
        # Pinned: an instance must stay the same chain from one version to the next.
        assert cue(jnp.arange(12), 0).tolist() == [1, -1, -1, 1, -1, -1, -1, -1, 1, -1, -1, 1]
        assert cue(5, 0).dtype == jnp.float32 and cue(5, 0).shape == ()

    def test_the_cue_agrees_with_the_published_hash(self):
        def mixed(bits):
            bits = (bits ^ bits >> 16) * 0x85EBCA6B % 2**32
            bits = (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32
            return bits ^ bits >> 16

        assert mixed(1) == 0x514E28B7  # from the reference implementation
        for instance in (0, 3):
            salt = mixed(instance + 0x9E3779B9)
            expected = [1.0 if mixed(cell ^ salt) >> 31 else -1.0 for cell in range(100)]
            assert cue(self.CELLS, instance).tolist() == expected

    def test_the_cue_is_a_fair_coin_over_cells_instances_and_neighbours(self):
        cues = np.asarray(cue(self.CELLS, jnp.arange(500)[:, None]))
        assert set(np.unique(cues)) == {-1.0, 1.0}
        assert_binomial(int((cues > 0).sum()), cues.size, 0.5)
        assert_binomial(int((cues[:, 1:] == cues[:, :-1]).sum()), cues[:, 1:].size, 0.5)
        assert_binomial(int((cues[1:] == cues[:-1]).sum()), cues[1:].size, 0.5)
        assert len(np.unique(cues, axis=0)) == 500

    def test_the_cue_is_the_same_traced(self):
        np.testing.assert_array_equal(jax.jit(cue)(self.CELLS, 4), cue(self.CELLS, 4))


@pytest.mark.parametrize("instance", [0, 1])
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_moves_by_hand(instance, position):
    environment = make(NAME)
    params = {"length": 4, "instance": instance}
    state, _ = environment.reset(params, jax.random.key(0))
    state = state.replace(position=jnp.int32(position))
    forward = 1 if cue(position, instance) > 0 else 0
    for slip in (0.0, 1.0):
        for action in (0, 1):
            ahead = (action == forward) != (slip == 1.0)
            after = environment.step(params | {"slip": slip}, jax.random.key(1), state, jnp.int32(action))
            expected = position + 1 if ahead else max(position - 1, 0)
            assert after.state.position == expected and after.state.time == 1
            assert after.observation.tolist() == [expected / 4, float(cue(expected, instance))]
            assert after.reward == after.terminated == after.done == after.info_metrics["success"] == (expected == 4)


def test_follows_the_actions_as_a_chain_in_numpy_does():
    environment = make(NAME)
    after, actions = play(
        environment, uniform(environment), params={"length": 9, "instance": 2}, episodes=8, steps=300
    )
    cues = np.asarray(cue(jnp.arange(10), 2))
    arrived = 0
    for episode, taken in enumerate(np.asarray(actions)):
        position = 0
        for t, action in enumerate(taken):
            position = position + 1 if (action == 1) == (cues[position] > 0) else max(position - 1, 0)
            assert after.state.position[episode, t] == position
            np.testing.assert_array_equal(after.observation[episode, t], np.float32([position / 9, cues[position]]))
            assert after.reward[episode, t] == after.terminated[episode, t] == (position == 9)
            if position == 9:
                arrived += 1
                break
    assert arrived >= 6


class TestPolicies:
    def test_policies_that_follow_the_cue_need_a_step_for_each_cell(self):
        for instance in (0, 5):
            after, _ = play(make(NAME), follow, params={"instance": instance}, steps=100)
            expected = [False] * 99 + [True]
            assert after.terminated[0].tolist() == after.done[0].tolist() == expected
            assert (
                after.reward[0].tolist() == after.info_metrics["success"][0].tolist() == [float(e) for e in expected]
            )

    @pytest.mark.slow
    @pytest.mark.parametrize("slip", [0.1, 0.3])
    def test_policies_that_follow_the_cue_need_more_steps_on_slippery_ground(self, slip):
        expected = steps_to_goal(100, 1 - slip)
        assert abs(expected / (100 / (1 - 2 * slip)) - 1) < 0.02  # what the docstring says
        after, _ = play(make(NAME), follow, params={"slip": slip}, episodes=1000, steps=1500)
        assert after.terminated.any(axis=1).all()
        steps = np.asarray(jnp.argmax(after.terminated, axis=1)) + 1
        assert abs(steps.mean() - expected) < 5 * steps.std() / np.sqrt(steps.size)

    def test_uniform_policies_succeed_as_often_as_documented(self):
        assert round(100 * chance_of_goal(length=100, steps=10_000, forward=0.5), 2) == 62.47
        assert round(100 * chance_of_goal(length=300, steps=10_000, forward=0.5), 2) == 0.53
        assert round(steps_to_goal(100, 0.5)) == 100 * 101

    @pytest.mark.slow
    @pytest.mark.parametrize("params", [{}, {"instance": 3, "slip": 0.2, "length": 150}])
    def test_uniform_policies_succeed_as_often_as_dynamic_programming_says(self, params):
        environment = make(NAME)
        after, _ = play(environment, uniform(environment), params=params, episodes=400)
        chance = chance_of_goal(params.get("length", 100), 10_000, 0.5)
        assert_binomial(int(after.terminated.any(axis=1).sum()), 400, chance)

    def test_policies_that_oppose_the_cue_are_cut_not_terminated(self):
        after, _ = play(make(NAME), oppose)
        assert np.flatnonzero(after.done[0]).tolist() == [9_999]
        assert not after.terminated.any() and not after.reward.any()

    @pytest.mark.parametrize("action", [0, 1])
    def test_policies_that_do_not_look_at_the_cue_stand_still(self, action):
        # Cells 0 and 1 of instance 0 point opposite ways: action 1 goes to and fro between them, action 0 stays.
        after, _ = play(make(NAME), always(action), steps=1000)
        assert after.state.position.max() == action


def test_has_the_documented_sizes():
    environment = make(NAME)
    assert environment.params == {"length": 100, "slip": 0.0, "instance": 0}
    assert environment.observation_shape == (2,) and environment.max_steps == 10_000
    assert environment.action_space == Discrete(2) and environment.info_metrics == ("success",)


def test_is_cut_at_as_many_steps_as_asked_for():
    environment = make(NAME, (("max_steps", 20_000),))
    assert environment.max_steps == 20_000 and make(NAME).max_steps == 10_000
    after, _ = play(environment, oppose)
    assert np.flatnonzero(after.done[0]).tolist() == [19_999]
    assert refusal(make, NAME, (("max_steps", 0),)) == (
        f"config.env_kwargs (max_steps=0) cannot be used by {NAME}: an episode has at least 1 step, got max_steps 0."
    )


def test_of_many_instances_compiles_once_each_member_with_its_own():
    environment = make(NAME)
    traced = []

    @jax.jit
    def seen(lengths, instances):
        traced.append(lengths)

        def one(length, instance):
            return play(environment, follow, params={"length": length, "instance": instance}, steps=8)[0]

        return jax.vmap(one)(lengths, instances)

    for first in (0, 10):
        lengths, instances = jnp.array([2, 5, 8]), jnp.arange(first, first + 3)
        after = seen(lengths, instances)
        assert jnp.argmax(after.terminated[:, 0], axis=1).tolist() == [1, 4, 7]
        for member, instance in enumerate(instances):
            expected = cue(after.state.position[member, 0], instance)
            np.testing.assert_array_equal(after.observation[member, 0, :, 1], expected)
    assert len(traced) == 1


def test_the_long_chain_is_played_by_gymnax():
    env, params = gymnax.make(NAME)
    params = params.replace(length=1)
    assert env.name == NAME and env.num_actions == 2
    observation, state = env.reset(jax.random.key(0), params)
    assert env.observation_space(params).contains(observation)
    back, forward = (0, 1) if observation[1] > 0 else (1, 0)
    observation, state, reward, terminated, truncated, info = env.step(jax.random.key(1), state, back, params)
    assert (reward, terminated, truncated, state.position, state.time) == (0, False, False, 0, 1)
    assert env.state_space(params).spaces["position"].contains(state.position)
    observation, state, reward, terminated, truncated, info = env.step(jax.random.key(2), state, forward, params)
    assert (reward, terminated, truncated, info["success"], info["discount"]) == (1, True, False, 1, 0)
    assert state.time == 0 and info["final_observation"][0] == 1.0

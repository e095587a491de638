"""NAVIX behind our interface is NAVIX itself, step by step."""

import pytest

pytest.importorskip("navix", reason="needs the extra navix")

import jax
import navix
import numpy as np
from helpers.library_steps import assert_drawn, assert_same, play

from haepo_jax.environments import Discrete, make
from haepo_jax.errors import ConfigError

SHAPES = {
    "Navix-DoorKey-8x8-v0": (8, 8, 3),
    "Navix-Empty-Random-5x5-v0": (5, 5, 3),
    "Navix-Dynamic-Obstacles-6x6-v0": (6, 6, 3),
    "Navix-FourRooms-v0": (17, 17, 3),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_steps_are_those_of_the_library(name, seed):
    environment, env = make(f"navix:{name}"), navix.make(name)
    assert environment.observation_shape == SHAPES[name]
    assert environment.action_space == Discrete(int(env.action_space.n)) and environment.max_steps == env.max_steps
    played = play(environment, seed=seed, steps=200)

    def reset(key):
        timestep = env.reset(key)
        return timestep, timestep.observation

    def step(key, timestep, action):
        after = env.step(timestep, action)
        return after, after.observation, after.reward, after.is_done()

    assert_same(played, reset, step, seed=seed)


def test_a_limit_of_time_is_no_end_of_the_task():
    played = play(make("navix:Navix-DoorKey-8x8-v0", (("max_steps", 5),)))
    assert played.done.tolist() == [False] * 4 + [True] and not played.terminated.any()


def test_the_goal_is_an_end_of_the_task():
    ends = [play(make("navix:Navix-Empty-5x5-v0"), seed=seed, steps=100) for seed in range(4)]
    reached = [played for played in ends if played.rewards.sum() > 0]
    assert reached and all(played.done[-1] and played.terminated[-1] for played in reached)


def test_observations_may_be_pixels_or_what_the_player_sees():
    pixels = make("navix:Navix-Empty-5x5-v0", (("observation_fn", "rgb"),))
    own = navix.make("Navix-Empty-5x5-v0", observation_fn=navix.observations.rgb)
    played = play(pixels, steps=10)
    assert pixels.observation_shape == own.observation_space.shape
    np.testing.assert_array_equal(
        played.observations[0], own.reset(jax.random.split(jax.random.key(0))[0]).observation
    )
    seen = make("navix:Navix-Empty-5x5-v0", (("observation_fn", "symbolic_first_person"),))
    assert seen.observation_shape == (7, 7, 3)


def test_a_state_does_not_carry_the_drawn_background():
    state, _ = jax.eval_shape(make("navix:Navix-DoorKey-8x8-v0").reset, {}, jax.random.key(0))
    assert sum(leaf.size for leaf in state) < 1000


def test_it_is_drawn():
    environment = make("navix:Navix-DoorKey-8x8-v0")
    assert_drawn(environment, play(environment, steps=5).states)


def test_an_unknown_id_or_observation_is_refused_with_the_near_ones():
    with pytest.raises(ConfigError, match=r"'Navix-DorKey-8x8-v0' is not known; did you mean Navix-DoorKey-8x8-v0"):
        make("navix:Navix-DorKey-8x8-v0")
    with pytest.raises(ConfigError, match=r"env_kwargs.observation_fn 'rbg' is not known.*rgb"):
        make("navix:Navix-DoorKey-8x8-v0", (("observation_fn", "rbg"),))

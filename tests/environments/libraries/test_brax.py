"""Brax behind our interface is Brax itself, step by step."""

import pytest

pytest.importorskip("brax", reason="needs the extra brax")

import jax
import jax.numpy as jnp
from brax import envs
from helpers.library_steps import assert_same, functions_of, play

from haepo_jax.environments import Box, make
from haepo_jax.environments.libraries import brax as adapter
from haepo_jax.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # Brax's, of its own future and of the MuJoCo beside it
SIZES = {"ant": (27, 8), "inverted_pendulum": (4, 1), "reacher": (11, 2), "halfcheetah": (17, 6)}
QUICK = ("inverted_pendulum",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SIZES])
def test_steps_are_those_of_the_library(name):
    environment, env = (
        make(f"brax:{name}", (("backend", "positional"),)),
        envs.get_environment(name, backend="positional"),
    )
    observations, actions = SIZES[name]
    assert environment.observation_shape == (observations,) and environment.action_space == Box(actions)
    assert environment.max_steps == 1000
    played = play(environment, steps=30)

    assert_same(played, *functions_of(env), tolerance=2e-4)


def test_a_fall_is_an_end_of_the_task_and_a_limit_of_time_is_not(monkeypatch):
    environment = make("brax:inverted_pendulum")
    played = play(environment, steps=200)
    assert played.done[-1] and played.terminated[-1]
    monkeypatch.setattr(adapter, "EPISODE_LENGTH", 2)
    played = play(adapter.adapt("brax:inverted_pendulum", envs.get_environment("inverted_pendulum")))
    assert played.done.tolist() == [False, True] and not played.terminated.any()


def test_actions_beyond_the_range_are_cut():
    environment = make("brax:inverted_pendulum")
    state, _ = environment.reset({}, jax.random.key(0))
    after = [environment.step({}, None, state, jnp.full((1,), action)) for action in (1.0, 7.0)]
    assert (after[0].observation == after[1].observation).all()


def test_arguments_of_the_class_reach_it_and_others_are_refused():
    assert make("brax:ant", (("exclude_current_positions_from_observation", False),)).observation_shape == (29,)
    with pytest.raises(ConfigError, match=r"'antt' is not known.*ant"):
        make("brax:antt")
    with pytest.raises(ConfigError, match="cannot be used by brax:ant"):
        make("brax:ant", (("backend", "springy"),))

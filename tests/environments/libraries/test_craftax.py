"""Craftax behind our interface is Craftax itself, step by step."""

import pytest

pytest.importorskip("craftax", reason="needs the extra craftax")

import jax
import numpy as np
from craftax.craftax_env import make_craftax_env_from_name
from helpers.library_steps import assert_drawn, assert_same, play

from haepo_jax.environments import Discrete, make
from haepo_jax.environments.libraries import craftax as adapter
from haepo_jax.errors import ConfigError

CLASSIC = "Craftax-Classic-Symbolic-v1"
SIZES = {
    CLASSIC: ((1345,), 17, 10_000, 22),
    "Craftax-Symbolic-v1": ((8268,), 43, 100_000, 67),
    "Craftax-Classic-Pixels-v1": ((63, 63, 3), 17, 10_000, 22),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "Classic-S" not in n else ()) for n in SIZES]
)
def test_steps_are_those_of_the_library(name):
    environment, env = make(f"craftax:{name}"), make_craftax_env_from_name(name, auto_reset=False)
    shape, actions, limit, achievements = SIZES[name]
    assert environment.observation_shape == shape and environment.action_space == Discrete(actions)
    assert environment.max_steps == limit and len(environment.info_metrics) == achievements
    played = play(environment, steps=200)

    def reset(key):
        observation, state = env.reset(key, env.default_params)
        return state, observation

    def step(key, state, action):
        observation, state, reward, done, _ = env.step(key, state, action, env.default_params)
        return state, observation, reward, done

    assert_same(played, reset, step, tolerance=1e-6)


class Short(type(make_craftax_env_from_name("Craftax-Classic-Symbolic-v1", auto_reset=False))):
    @property
    def default_params(self):
        return super().default_params.replace(max_timesteps=4)


def test_a_limit_of_time_is_no_end_of_the_task():
    played = play(adapter.adapt("craftax:short", Short()))
    assert played.done.tolist() == [False] * 3 + [True] and not played.terminated.any()


def test_a_death_is_an_end_of_the_task_and_an_ended_episode_reports_its_achievements():
    environment = make("craftax:Craftax-Classic-Symbolic-v1")
    _, own = make_craftax_env_from_name(CLASSIC, auto_reset=False).reset(jax.random.key(0))
    dying = own.replace(player_health=0, achievements=own.achievements.at[0].set(True))
    after = jax.jit(environment.step)({}, jax.random.key(1), tuple(jax.tree.leaves(dying)), 0)
    assert after.done and after.terminated
    assert sum(map(float, after.info_metrics.values())) == 100.0


def test_its_numbers_may_be_traced_and_the_rest_is_refused():
    environment = make("craftax:Craftax-Classic-Symbolic-v1")
    assert {"day_length", "spawn_cow_chance"} <= set(environment.params)
    assert not {"max_timesteps", "always_diamond", "fractal_noise_angles"} & set(environment.params)
    played = [play(environment, steps=60, params={"day_length": days}) for days in (300, 20)]
    assert not np.array_equal(played[0].observations[:20], played[1].observations[:20])
    with pytest.raises(ConfigError, match=r"env_kwargs.size is not an argument"):
        make("craftax:Craftax-Classic-Symbolic-v1", (("size", 3),))


@pytest.mark.slow
def test_it_is_drawn():
    environment = make("craftax:Craftax-Classic-Symbolic-v1")
    assert_drawn(environment, play(environment, steps=3).states)

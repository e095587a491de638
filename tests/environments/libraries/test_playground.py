"""MuJoCo Playground behind our interface is itself, step by step."""

import pytest

pytest.importorskip("mujoco_playground", reason="needs the extra playground")

from helpers.library_steps import assert_same, functions_of, play
from mujoco_playground import registry

from haepo_jax.environments import Box, make
from haepo_jax.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the MuJoCo beside it
SIZES = {"CartpoleBalance": (5, 1), "PendulumSwingup": (3, 1), "CheetahRun": (17, 6)}
QUICK = ("CartpoleBalance",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SIZES])
def test_steps_are_those_of_the_library(name):
    environment = make(f"playground:{name}")
    config = registry.get_default_config(name)
    config.impl = "jax"
    env = registry.load(name, config=config)
    observations, actions = SIZES[name]
    assert environment.observation_shape == (observations,) and environment.action_space == Box(actions)
    assert environment.max_steps == config.episode_length // config.action_repeat
    played = play(environment, steps=20)

    assert_same(played, *functions_of(env), tolerance=2e-4)


def test_settings_of_its_config_reach_it_and_others_are_refused():
    played = play(make("playground:CartpoleBalance", (("episode_length", 4),)))
    assert played.done.tolist() == [False] * 3 + [True] and not played.terminated.any()
    with pytest.raises(ConfigError, match=r"env_kwargs.length is not a setting of CartpoleBalance"):
        make("playground:CartpoleBalance", (("length", 4),))


def test_an_action_may_last_for_several_steps():
    once, twice = (make("playground:CartpoleBalance", (("action_repeat", n),)) for n in (1, 2))
    assert twice.max_steps == once.max_steps // 2
    assert 1.5 < play(twice, steps=5).rewards[0] <= 2.0

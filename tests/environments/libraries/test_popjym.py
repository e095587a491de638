"""POPGym in JAX behind our interface is itself, step by step."""

import pytest

pytest.importorskip("popjym", reason="needs popjym, from its source")

import jax.numpy as jnp
from helpers.library_steps import assert_same, play

from haepo_jax.environments import Box, Discrete, make
from haepo_jax.environments.libraries.popjym import find
from haepo_jax.errors import ConfigError

SPACES = {
    "RepeatPreviousEasy": Discrete(4),
    "CountRecallEasy": Discrete(2),
    "BattleshipEasy": Discrete(64),
    "ConcentrationEasy": Discrete(52),
    "MinesweeperEasy": Discrete(16),
    "StatelessCartPoleEasy": Discrete(2),
    "NoisyStatelessPendulumEasy": Box(1),
}


@pytest.mark.filterwarnings("ignore:jax.nn.one_hot input:DeprecationWarning")  # of Concentration
@pytest.mark.parametrize("name", SPACES)
def test_steps_are_those_of_the_library(name):
    environment, env = make(f"popjym:{name}"), find(name)()
    params = env.default_params
    assert environment.action_space == SPACES[name]
    played = play(environment, steps=60)
    scale = float(env.action_space(params).high) if isinstance(SPACES[name], Box) else None

    def reset(key):
        observation, state = env.reset_env(key, params)
        return state, observation

    def step(key, state, action):
        own = action if scale is None else scale * action
        observation, state, reward, done, _ = env.step_env(key, state, own, params)
        return state, observation, jnp.reshape(reward, ()), done

    assert_same(played, reset, step, tolerance=1e-6)


def test_the_end_of_the_cards_is_an_end_of_the_task_and_a_limit_of_time_is_not():
    played = play(make("popjym:RepeatPreviousEasy"), steps=60)
    assert len(played.done) < 60 and played.done[-1] and played.terminated[-1]
    limited = make("popjym:NoisyStatelessPendulumEasy")
    played = play(limited, steps=250)
    assert len(played.done) == limited.max_steps == 200 and played.done[-1] and not played.terminated.any()


def test_an_unknown_id_is_refused_with_the_near_ones():
    with pytest.raises(ConfigError, match="did you mean RepeatPreviousEasy"):
        make("popjym:RepeatPreviosEasy")

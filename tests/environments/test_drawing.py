"""How environments are drawn: by gymnax, by a method of their own, or not at all."""

import sys

import jax
import numpy as np
import pytest
from gymnax.environments.bsuite.catch import Catch

from haepo_jax.environments import make
from haepo_jax.errors import ConfigError


class Drawn(Catch):
    def render(self, state, params):
        return np.full((2, 2, 3), int(state.ball_y), np.uint8)


def state_of(environment):
    return jax.device_get(environment.reset({}, jax.random.key(0))[0])


def test_one_of_gymnax_that_gymnax_does_not_draw_is_refused():
    umbrella = make("UmbrellaChain-bsuite")
    with pytest.raises(ConfigError, match="env UmbrellaChain-bsuite cannot be drawn: gymnax draws others"):
        next(umbrella.render({}, [state_of(umbrella)]))


def test_one_whose_library_is_missing_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    cartpole = make("CartPole-v1")
    with pytest.raises(ConfigError, match=r"env CartPole-v1 cannot be drawn: pygame is not installed, run `pip"):
        next(cartpole.render({}, [state_of(cartpole)]))


def test_one_from_outside_draws_itself_and_ours_are_not_drawn():
    environment = make(Drawn)
    state = state_of(environment)
    pictures = list(environment.render({}, [state, state.replace(ball_y=7)]))
    assert [picture[0, 0, 0] for picture in pictures] == [0, 7]
    assert make("RandomWalk-haepo").render is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Breakout-MinAtar", "FourRooms-misc", "PointRobot-misc", "Pong-misc"])
def test_gymnax_draws_every_state_on_one_figure(name):
    environment = make(name)
    figures = list(environment.render({}, [state_of(environment)] * 2))
    assert figures[0] is figures[1] and figures[0].axes[0].get_title().endswith("Step 2")

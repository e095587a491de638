"""Random actions are even over what is allowed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toy_environments import NVEC, make_toy

from haepo_jax.environments import Discrete, MultiDiscrete, make
from haepo_jax.environments.actions import draw_action


def draw_many(environment, observation, num=3000):
    draw = jax.vmap(functools.partial(draw_action, environment, observation=observation))
    return np.asarray(draw(jax.random.split(jax.random.key(0), num)))


@pytest.mark.parametrize("space", [Discrete(4), MultiDiscrete(NVEC)], ids=["discrete", "multi_discrete"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_every_allowed_choice_is_as_likely_as_the_others(space, masked):
    environment = make_toy(space, masked=masked)
    _, observation = environment.reset({}, jax.random.key(3))
    nvec = (4,) if isinstance(space, Discrete) else NVEC
    actions = draw_many(environment, observation).reshape(-1, len(nvec))
    mask = np.asarray(observation[-sum(nvec) :]) > 0.5 if masked else np.ones(sum(nvec), bool)
    for k, n in enumerate(nvec):
        allowed = mask[sum(nvec[:k]) :][:n]
        shares = np.bincount(actions[:, k], minlength=n) / len(actions)
        np.testing.assert_allclose(shares, allowed / allowed.sum(), atol=0.05)
        assert not shares[~allowed].any()


def test_where_nothing_is_allowed_all_is():
    environment = make_toy(Discrete(4))
    assert set(draw_many(environment, jnp.zeros(environment.observation_shape), 200)) == {0, 1, 2, 3}


def test_real_numbers_are_even_over_the_range_of_policies():
    actions = draw_many(make("Pendulum-v1"), jnp.zeros(3))
    assert actions.min() < -0.95 and actions.max() > 0.95 and abs(actions.mean()) < 0.05

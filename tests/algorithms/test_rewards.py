"""Rewards that are learnt from, where `config.returns` makes others of those of the environment."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.algorithms.rewards import make_rewards
from haepo_jax.config import traced_settings, with_settings
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member
from haepo_jax.rollouts.episodes import Trajectories
from haepo_jax.rollouts.segments import Segment

ONES = jnp.ones((2, 3))
MASK = jnp.array([[True, True, False], [True, True, True]])
PLACES = jnp.arange(12.0).reshape(2, 3, 2)
EPISODES = Trajectories(PLACES, ONES, ONES, 5 * ONES, MASK, ONES)
SEGMENT = Segment(PLACES, PLACES + 1, ONES, ONES, 5 * ONES, MASK, MASK, ONES, None)


def scaled(steps, *, by=1.0, shift=0.0):
    return by * steps.rewards + shift


def rewards_of_one(steps):
    return steps.rewards[0]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_rewards", sys.modules[__name__])


def config_with(by, shift=0.0, **changes):
    small = {"num_trajectories": 4, "horizon": 12, "policy": {"hidden_sizes": (4,)}, "num_updates": 2}
    small |= {"reinforce": {"normalization": "none"}, "ppo": {"num_steps": 8, "num_epochs": 1, "num_minibatches": 1}}
    outside = {"returns": "my_rewards:scaled", "returns_kwargs": {"shift": shift}, "returns_params": {"by": by}}
    return fixed_config(small | changes | ({} if by is None else outside))


@pytest.mark.parametrize(("batch", "where"), [(EPISODES, MASK), (SEGMENT, ONES)])
def test_are_made_of_the_steps_of_a_batch_and_0_after_the_end_of_an_episode(batch, where):
    config = config_with(0.5, shift=1.0)
    np.testing.assert_array_equal(make_rewards(config)(config, batch), 3.5 * where)
    np.testing.assert_array_equal(make_rewards(config_with(None))(config, batch), batch.rewards)


def test_may_have_traced_arguments():
    config = config_with(0.5)
    by = jax.jit(lambda by: make_rewards(config)(with_settings(config, {"returns_params.by": by}), SEGMENT)[0, 0])
    assert (by(2.0), by(3.0)) == (10.0, 15.0)


@functools.cache
def update(algorithm, by):
    """The parameters and the metrics after one update; `by` is traced."""
    config = config_with(by, algorithm=algorithm)
    functions = make_member(config)
    settings = {name: jnp.asarray(value) for name, value in traced_settings(config).items()}

    def one():
        state = functions.init(jax.random.key(0), settings)
        after, metrics = functions.learn(state, functions.collect(state))
        return after.learner.params, metrics

    return jax.jit(one)()


def norm(params):
    return float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))


def test_of_episodes_take_the_place_of_the_environment_s_in_the_loss_alone():
    batch = EPISODES._replace(observations=jnp.ones((2, 3, 4)), actions=jnp.zeros((2, 3), jnp.int32))
    losses, returns = [], []
    for by in (None, -1.0):
        config = config_with(by, algorithm="reinforce", num_trajectories=2, horizon=3)
        algorithm = make_member(config).algorithm
        learner = algorithm.init(config, jax.random.key(0))
        losses.append(float(algorithm.loss(config, learner, batch)(learner.params)[0]))
        returns.append(float(algorithm.measure(batch)["episode_return"]))
    assert losses[0] == -losses[1] != 0 and returns[0] == returns[1] == 12.5


@pytest.mark.slow
def test_rewards_from_outside_that_equal_the_environments_change_no_bit():
    (_, plain), (_, same) = update("ppo", None), update("ppo", 1.0)
    assert plain.keys() == same.keys() and "loss" in plain
    for name, value in plain.items():
        np.testing.assert_array_equal(value, same[name])


@pytest.mark.slow
def test_of_segments_reach_the_advantages_and_the_values():
    (plain, metrics), (other, of_other) = update("ppo", None), update("ppo", 0.0)
    assert norm(plain) != norm(other) and metrics["value_loss"] != of_other["value_loss"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"returns": "my_rewards:rewards_of_one"}, r"gives float32\[12\]; it must give a number for each step"),
        ({"returns": "my_rewards:scaled", "returns_params": {"b": 1}}, "returns_params.b is not an argument of"),
        ({"returns": "my_rewards:scaled", "memory": "recompute"}, "keeps no steps, which config.returns learns"),
    ],
)
def test_that_cannot_be_made_are_refused(settings, sentence):
    def first_update():
        functions = make_member(fixed_config({"num_trajectories": 4, "horizon": 12} | settings))
        state = functions.init(jax.random.key(0), {})
        return functions.learn(state, functions.collect(state))

    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(first_update)

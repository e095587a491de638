"""Rewards that are learnt from, where `config.returns` makes others of those of the environment."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.config import from_config_dict, traced_settings
from haepo_jax.errors import ConfigError
from haepo_jax.population.member import make_member


def scaled(steps, *, by=1.0, shift=0.0):
    return by * steps.rewards + shift


def rewards_of_one(steps):
    return steps.rewards[0]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_rewards", sys.modules[__name__])


@functools.cache
def update(algorithm, by=None, shift=0.0):
    """The state and the metrics after one update, and the batch; `by` is traced."""
    small = {"num_trajectories": 4, "horizon": 12, "policy": {"hidden_sizes": (4,)}, "num_updates": 2}
    small |= {"algorithm": algorithm, "reinforce": {"normalization": "none"}}
    small["ppo"] = {"num_steps": 8, "num_epochs": 1, "num_minibatches": 1}
    outside = {"returns": "my_rewards:scaled", "returns_kwargs": {"shift": shift}, "returns_params": {"by": by}}
    config = from_config_dict(small if by is None else small | outside)
    functions = make_member(config)
    settings = {name: jnp.asarray(value) for name, value in traced_settings(config).items()}

    def one():
        state = functions.init(jax.random.key(0), settings)
        batch = functions.collect(state)
        after, metrics = functions.learn(state, batch)
        return after.learner.params, metrics, batch

    return jax.jit(one)()


def norm(params):
    return float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))


def test_of_episodes_take_the_place_of_the_environment_s_in_the_loss_alone():
    (_, plain, batch), (_, turned, same_batch) = update("reinforce"), update("reinforce", by=-1.0)
    np.testing.assert_allclose(turned["loss"], -plain["loss"], rtol=1e-6)
    assert float(plain["loss"]) != 0 and turned["episode_return"] == plain["episode_return"]
    np.testing.assert_array_equal(batch.rewards, same_batch.rewards)


def test_that_are_those_of_the_environment_change_no_bit():
    (_, plain, _), (_, same, _) = update("ppo"), update("ppo", by=1.0)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, same[name])


def test_of_segments_reach_the_advantages_and_the_values():
    (plain, metrics, _), (other, of_other, _) = update("ppo"), update("ppo", by=0.0)
    assert norm(plain) != norm(other) and metrics["value_loss"] != of_other["value_loss"]
    assert metrics["episode_length"] == of_other["episode_length"] or jnp.isnan(metrics["episode_length"])


def test_of_steps_after_the_end_of_an_episode_count_nothing():
    """A bonus for each step is one for its length, not for the horizon."""
    _, metrics, batch = update("reinforce", by=0.0, shift=1.0)
    log_likelihoods = (batch.log_probs * batch.mask).sum(axis=-1)
    expected = -(batch.mask.sum(axis=-1) * log_likelihoods).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert not batch.mask.all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"returns": "my_rewards:rewards_of_one"}, r"gives float32\[12\]; it must give a number for each step, \(4, 12\)"),
        (
            {"returns": "my_rewards:scaled", "returns_params": {"b": 1}},
            "returns_params.b is not an argument of",
        ),
        (
            {"returns": "my_rewards:scaled", "memory": "recompute"},
            "keeps no steps, which config.returns learns",
        ),
    ],
)
def test_that_cannot_be_made_are_refused(settings, sentence):
    def first_update():
        functions = make_member(from_config_dict({"num_trajectories": 4, "horizon": 12} | settings))
        state = functions.init(jax.random.key(0), {})
        return functions.learn(state, functions.collect(state))

    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(first_update)

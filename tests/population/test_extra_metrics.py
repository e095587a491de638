"""More columns of an update's batch, by what `config.metrics` names."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import traced_settings, with_settings
from haepo_jax.errors import ConfigError
from haepo_jax.population.extra_metrics import make_extra_metrics
from haepo_jax.population.member import make_member
from haepo_jax.rollouts.episodes import Trajectories

SMALL = {"num_trajectories": 4, "horizon": 12, "policy": {"hidden_sizes": (4,)}}


def speed(steps, *, axis=1):
    return {"mean_velocity": jnp.mean(jnp.abs(steps.observations[..., axis]), where=steps.mask)}


def share_above(steps, *, bound):
    return {"share_above": jnp.mean(steps.observations[..., 0] >= bound, where=steps.mask)}


def one_loss(steps):
    return {"loss": steps.rewards.sum()}


def own_column(steps):
    return {"optimizer.learning_rate": steps.rewards.sum()}


def many(steps):
    return {"rewards": steps.rewards}


def no_names(steps):
    return steps.rewards.sum()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_metrics", sys.modules[__name__])


def first_update(**settings):
    config = fixed_config(SMALL | settings)
    functions = make_member(config)
    state = functions.init(jax.random.key(0), {n: jnp.asarray(v) for n, v in traced_settings(config).items()})
    batch = functions.collect(state)
    return batch, functions.learn(state, batch)[1]


def test_extra_metrics_are_computed_from_the_steps_of_the_batch():
    ones, mask = jnp.ones((2, 2)), jnp.array([[True, False], [True, True]])
    places = jnp.arange(12.0).reshape(2, 2, 3)
    config = fixed_config({"metrics": "my_metrics:speed", "metrics_kwargs": {"axis": 2}})
    found = make_extra_metrics(config)(config, Trajectories(places, ones, ones, ones, mask, ones), {})
    np.testing.assert_allclose(found["mean_velocity"], (2 + 8 + 11) / 3, rtol=1e-6)


def test_a_param_of_extra_metrics_is_a_traced_setting():
    config = fixed_config({"metrics": "my_metrics:share_above", "metrics_params": {"bound": 4.0}})
    assert traced_settings(config)["metrics_params.bound"] == 4.0
    ones, mask = jnp.ones((2, 2)), jnp.array([[True, False], [True, True]])
    batch = Trajectories(jnp.arange(12.0).reshape(2, 2, 3), ones, ones, ones, mask, ones)
    compute = jax.jit(
        lambda bound: make_extra_metrics(config)(with_settings(config, {"metrics_params.bound": bound}), batch, {})
    )
    assert [float(compute(bound)["share_above"]) for bound in (1.0, 9.0)] == [
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    ]


@pytest.mark.parametrize("algorithm", ["haepo", "ppo"])
def test_extra_metrics_stand_beside_those_of_the_method(algorithm):
    small = {"num_steps": 8, "num_epochs": 1, "num_minibatches": 1}
    _, metrics = jax.eval_shape(lambda: first_update(algorithm=algorithm, metrics="my_metrics:speed", ppo=small))
    assert metrics["mean_velocity"].shape == () and metrics["mean_velocity"].dtype == jnp.float32 and "loss" in metrics


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metrics": "my_metrics:one_loss"}, "my_metrics:one_loss has a measure 'loss', which is what a run itself"),
        ({"metrics": "my_metrics:own_column"}, "has a measure 'optimizer.learning_rate', which is what a run itself"),
        ({"metrics": "my_metrics:many"}, "the metric 'rewards' gives float32[4, 12]; it must give one number."),
        ({"metrics": "my_metrics:no_names"}, "it must give metrics by name."),
        ({"metrics": "my_metrics:speed", "memory": "recompute"}, "keeps no steps, which config.metrics learns from"),
        ({"metrics": "my_metrics:speed", "metrics_kwargs": {"axes": 1}}, "metrics_kwargs.axes is not an argument of"),
    ],
)
def test_that_cannot_be_reported_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        jax.eval_shape(lambda: first_update(**settings))

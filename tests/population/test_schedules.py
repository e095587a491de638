"""Scheduled coefficients in training: what a member learns with, by updates and by environment steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.config import from_config_dict, get_method_settings, traced_settings
from haepo_jax.config.members import make_members
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member, total_steps

NAME = "haepo.kl_coef"
COLUMN = f"{NAME}_scheduled"


def config_with(*, method=None, **changes):
    small = {"num_updates": 4, "num_trajectories": 4, "horizon": 6, "policy": {"hidden_sizes": (2,)}, "num_seeds": 1}
    haepo = {"num_epochs": 1, "kl_coef": 0.5, "entropy_coef": 0.2, "normalization": "none"} | (method or {})
    return from_config_dict(small | {"env": "RandomWalk-haepo", "haepo": haepo} | changes)


def settings_of(config):
    kinds = {int: jnp.int32, float: jnp.float32}
    return {name: jnp.asarray(value, kinds[type(value)]) for name, value in traced_settings(config).items()}


def trained(config, updates=3):
    """The states before each update and after the last, and the metrics of each."""
    functions = make_member(config)
    update = jax.jit(lambda state: functions.learn(state, functions.collect(state)))
    states, history = [jax.jit(functions.init)(jax.random.key(0), settings_of(config))], []
    for _ in range(updates):
        state, metrics = update(states[-1])
        states.append(state)
        history.append(metrics)
    return states, history


def rising(done, updates, *, start):
    return start + (1 - start) * done / updates


@pytest.fixture(scope="module")
def linear():
    return trained(config_with(method={"kl_coef_schedule": "linear"}))


def test_an_update_learns_with_the_value_times_the_factor_of_the_updates_done(linear):
    states, history = linear
    np.testing.assert_allclose([metrics[COLUMN] for metrics in history], [0.5, 0.375, 0.25])
    plain = config_with()
    functions = make_member(plain)
    state, value = states[2], history[2][COLUMN]
    by_hand = dataclasses.replace(state, settings=state.settings | {NAME: value})
    after, metrics = jax.jit(lambda state: functions.learn(state, functions.collect(state)))(by_hand)
    jax.tree.map(np.testing.assert_array_equal, after.learner, states[3].learner)
    assert COLUMN not in metrics and metrics["loss"] == history[2]["loss"]
    assert states[3].settings[NAME] == 0.5  # what the member has, and a sweep varies, stays


def test_a_constant_schedule_leaves_the_program_as_it_is():
    def program(config):
        functions = make_member(config)
        state = jax.eval_shape(functions.init, jax.random.key(0), settings_of(config))
        return str(jax.make_jaxpr(lambda state: functions.learn(state, functions.collect(state)))(state))

    plain = program(config_with())
    assert (
        program(config_with(method={"kl_coef_schedule": "constant", "kl_coef_schedule_kwargs": {"end": 0}})) == plain
    )
    assert program(config_with(method={"kl_coef_schedule": "linear"})) != plain


def test_the_members_of_a_sweep_have_each_its_own_value_on_one_schedule():
    config = config_with(
        method={"kl_coef_schedule": "cosine", "kl_coef_schedule_kwargs": {"end": 0.2}}, sweep={NAME: (0.5, 2.0)}
    )
    members = make_members(config)
    state, metrics = make_population(config).run([dict(m.settings) for m in members], seeds=[0])
    factors = 0.2 + 0.8 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    del state
    by_setting = np.asarray(metrics[COLUMN]).reshape(2, -1)
    np.testing.assert_allclose(by_setting, np.outer([0.5, 2.0], factors), rtol=1e-6)


def test_a_schedule_follows_the_budget_of_environment_steps():
    config = config_with(method={"kl_coef_schedule": "linear"}, num_updates=1000, max_env_steps=100)
    states, history = trained(config)
    for state, metrics in zip(states, history, strict=False):
        done = np.floor(total_steps(np.asarray(state.env_steps)) / 100 * 1000)
        assert float(metrics[COLUMN]) == pytest.approx(0.5 * (1 - done / 1000), rel=1e-5)
    assert 0 < float(history[2][COLUMN]) < 0.4


def test_a_schedule_may_be_given_as_an_object_to_the_method_that_learns():
    config = config_with(method={"kl_coef_schedule_kwargs": {"start": 0.25}})
    functions = make_member(config, kl_coef_schedule=rising)
    state = jax.eval_shape(functions.init, jax.random.key(0), settings_of(config))
    first = dataclasses.replace(
        state, settings=settings_of(config), updates_done=jnp.int32(2), env_steps=jnp.zeros(2, jnp.uint32)
    )
    assert float(functions.trace(first).haepo.kl_coef) == 0.5 * 0.625
    outside = config_with(
        algorithm="helpers.own_methods:PLAIN", algorithm_kwargs={"weight_schedule_kwargs.start": 0.5}
    )
    of_outside = make_member(outside, weight_schedule=rising)
    held = dataclasses.replace(first, settings=settings_of(outside))
    assert float(get_method_settings(of_outside.trace(held)).weight) == 0.75

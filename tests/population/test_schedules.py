"""Scheduled coefficients in training: what a member learns with, by updates and by environment steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.config import get_method_settings, traced_settings
from haepo_jax.config.members import make_members
from haepo_jax.population.member import make_member

NAME = "haepo.kl_coef"
COLUMN = f"{NAME}_scheduled"


def config_with(*, method=None, **changes):
    small = {"num_updates": 4, "num_trajectories": 4, "horizon": 6, "policy": {"hidden_sizes": (2,)}, "num_seeds": 1}
    haepo = {"num_epochs": 1, "kl_coef": 0.5, "entropy_coef": 0.2, "normalization": "none"} | (method or {})
    return fixed_config(small | {"env": "RandomWalk-haepo", "haepo": haepo} | changes)


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


def state_at(config, updates_done=0, env_steps=0, **settings):
    """Of a member, as far as schedules look at it."""
    functions = make_member(config)
    state = jax.eval_shape(functions.init, jax.random.key(0), settings_of(config))
    return dataclasses.replace(
        state,
        settings=settings_of(config) | settings,
        updates_done=jnp.int32(updates_done),
        env_steps=jnp.array([0, env_steps], jnp.uint32),
    )


def test_the_members_of_a_sweep_have_each_its_own_value_on_one_schedule():
    cosine = {"kl_coef_schedule": "cosine", "kl_coef_schedule_kwargs": {"end": 0.2}}
    config = config_with(method=cosine, sweep={NAME: (0.5, 2.0)})
    functions, found = make_member(config), []
    for done in range(4):
        for member in make_members(config):
            state = state_at(config, done, **{name: jnp.float32(value) for name, value in member.settings.items()})
            found.append(float(functions.trace(state).haepo.kl_coef))
    factors = 0.2 + 0.8 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(found, np.outer(factors, [0.5, 2.0]).ravel(), rtol=1e-6)


def test_a_schedule_follows_the_budget_that_ends_the_run():
    config = config_with(method={"kl_coef_schedule": "linear"}, num_updates=1000, max_env_steps=400)
    functions = make_member(config)
    found = [
        float(functions.trace(state_at(config, updates, steps)).haepo.kl_coef)
        for updates, steps in ((0, 0), (3, 100), (900, 100), (7, 399))
    ]
    np.testing.assert_allclose(found, [0.5, 0.375, 0.05, 0.5 * 0.003], rtol=1e-4)


def test_a_schedule_may_be_given_as_an_object_to_the_method_that_learns():
    config = config_with(method={"kl_coef_schedule_kwargs": {"start": 0.25}})
    functions = make_member(config, kl_coef_schedule=rising)
    assert float(functions.trace(state_at(config, 2)).haepo.kl_coef) == 0.5 * 0.625
    of_outside = {"weight_schedule_kwargs": {"start": 0.5}}
    config = config_with(algorithm="helpers.own_methods:PLAIN", algorithm_kwargs=of_outside)
    traced = make_member(config, weight_schedule=rising).trace(state_at(config, 2))
    assert float(get_method_settings(traced).weight) == 0.75

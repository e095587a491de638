"""Every method is held to this, the built-in ones by their records and one that a user hands in by its name."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_close
from helpers.updates import arrays_of, assert_identical, distance

from haepo_jax.algorithms.base import gradient_step
from haepo_jax.config import (
    count_steps_of_update,
    get_method,
    get_method_settings,
    name_setting,
    traced_settings,
    with_settings,
)
from haepo_jax.config.method import list_fields
from haepo_jax.config.reads import unread
from haepo_jax.environments.contract import BY_EVERY_RUN
from haepo_jax.errors import ConfigError
from haepo_jax.methods import (
    LANGUAGE_METHODS,
    METHODS,
    EpochsConfig,
    LanguageMethodSettings,
    MethodSettings,
    ReferenceConfig,
    Sees,
)
from haepo_jax.optimizer import make_optimizer
from haepo_jax.population.member import make_member

HANDED_IN = "examples.custom_algorithm:METHOD"
ALL = (*METHODS, HANDED_IN)
OF_LANGUAGE = (
    *(f"haepo_jax.methods.policy_ratio:{preset}" for preset in ("DAPO", "GSPO", "GMPO", "CISPO", "SAPO", "VESPO")),
    *(f"haepo_jax.methods.{name}:METHOD" for name in ("gvpo", "vmpo", "listwise", "ipo", "simpo", "kto")),
)
"""Methods that are for language models first, from outside here."""
EVERY = [*ALL, *(pytest.param(name, marks=pytest.mark.slow) for name in OF_LANGUAGE)]
OF_EVERY_UPDATE = {"episode_return", "episode_length", "policy_entropy", "env_steps", "loss", "grad_norm"}
SMALL = {"num_epochs": 3, "num_steps": 8, "num_minibatches": 2}
M, T = 4, 8


def config_of(name, **changes):
    """CartPole with strong pushes, so that episodes end by themselves and at the horizon; `SMALL` where it applies."""
    basic = {
        "algorithm": name,
        "env_params": {"force_mag": 40.0},
        "num_updates": 5,
        "num_trajectories": M,
        "horizon": T,
        "policy": {"hidden_sizes": (8,)},
        "optimizer": {"learning_rate": 0.05},
    }
    if name.endswith("CISPO"):  # whose bound is far beyond what so few steps come to
        basic["algorithm_params"] = {"clip_high": 0.1}
    config = fixed_config(basic | ({"ppo": SMALL} if name == "ppo" else {}))
    own = {
        leaf: value
        for leaf, value in (SMALL | {"reference": "previous"}).items()
        if hasattr(get_method_settings(config), leaf)
    }
    section, _, _ = name_setting(config, "num_epochs").partition(".")
    return fixed_config(basic | ({section: own} if own else {}) | changes)


class Member:
    """A member of a method, compiled; `batch` is its first, its rewards drawn so that no two returns are alike."""

    def __init__(self, name):
        self.config = config_of(name)
        self.functions = make_member(self.config)
        self.settings = arrays_of(traced_settings(self.config))
        self.init, self.collect, self.learn = map(
            jax.jit, (self.functions.init, self.functions.collect, self.functions.learn)
        )
        self.start = self.init(jax.random.key(0), self.settings)
        batch = self.collect(self.start)
        self.batch = batch._replace(rewards=jax.random.normal(jax.random.key(1), batch.rewards.shape))

    def after(self, updates, seed=0, **settings):
        """The state and the metrics after these updates, on batches that are played."""
        state, metrics = self.init(jax.random.key(seed), self.settings | arrays_of(settings)), {}
        for _ in range(updates):
            state, metrics = self.learn(state, self.collect(state))
        return state, metrics


@functools.cache
def member(name):
    return Member(name)


@pytest.mark.parametrize("name", EVERY)
class TestEveryMethod:
    def test_reports_what_every_run_does_and_what_its_record_names(self, name):
        one = member(name)
        _, metrics = one.learn(one.start, one.batch)
        assert metrics.keys() == OF_EVERY_UPDATE | set(get_method(one.config).metrics)
        for metric, value in metrics.items():
            assert value.shape == () and value.dtype == (jnp.int32 if metric == "env_steps" else jnp.float32)
            assert np.isfinite(value)

    def test_takes_as_many_gradient_steps_as_its_settings_say(self, name):
        one = member(name)
        state, _ = one.learn(one.start, one.batch)
        assert state.learner.optimizer_state[-1].count == count_steps_of_update(one.config)
        assert distance(state.learner.params, one.start.learner.params) > 1e-3

    def test_gives_the_same_bits_twice_and_others_with_another_seed(self, name):
        first, same, other = (member(name).after(2, seed=seed) for seed in (3, 3, 4))
        assert_identical(first[0].learner, same[0].learner)
        assert_identical(first[1], same[1])
        assert distance(first[0].learner.params, other[0].learner.params) > 1e-3

    def test_is_changed_by_every_traced_setting_that_it_reads_in_one_program(self, name):
        one = member(name)
        without_effect = unread(one.config)
        adaptation = get_method(one.config).adaptation
        adapts = adaptation is not None and adaptation(get_method_settings(one.config)) is not None

        def params_with(settings):
            state = dataclasses.replace(one.start, settings=one.settings | settings)
            if adapts:  # whose state begins with the settings, and reaches the parameters an update later
                state = one.learn(one.init(jax.random.key(0), one.settings | settings), one.batch)[0]
            return one.learn(state, one.batch)[0].learner.params

        usual = params_with({})
        for setting, value in traced_settings(one.config).items():
            if setting in without_effect or setting.startswith("env_params."):
                continue
            changed = []
            for other in (0.1 * value, 4 * value + 0.3):
                given = {setting: jnp.asarray(other, one.settings[setting].dtype)}
                changed.append(distance(params_with(given), usual))
            assert max(changed) > 1e-5, setting
        assert one.learn._cache_size() == one.collect._cache_size() == one.init._cache_size() == 1

    def test_has_settings_that_sweeps_may_vary_and_flags_can_set(self, name):
        config = member(name).config
        for leaf, field in list_fields(get_method(config).settings).items():
            swept = {name_setting(config, leaf): (getattr(get_method_settings(config), leaf),)}
            if field.metadata.get("traced") and name_setting(config, leaf) not in unread(config):
                if None not in swept[name_setting(config, leaf)]:
                    assert config_of(name, sweep=swept).sweep == swept
            elif "group" not in field.metadata:
                with pytest.raises(ConfigError):
                    config_of(name, sweep=swept)

    def test_reports_under_names_that_nothing_else_has(self, name):
        assert not BY_EVERY_RUN & set(get_method(member(name).config).metrics)

    def test_goes_with_recompute_unless_it_learns_from_steps(self, name):
        method = get_method(member(name).config)
        if method.keeps_steps:
            with pytest.raises(ConfigError, match="recompute keeps no steps"):
                config_of(name, memory="recompute")
        else:
            assert config_of(name, memory="recompute").memory == "recompute"
        assert ("memory" in unread(config_of(name, memory="store"))) == (method.sees is Sees.SEGMENTS)


def update_counted_in_steps(name):
    """`settings -> (state, metrics)` of an update of at least 50 steps, and its config."""
    config = config_of(name, min_batch_steps=50)
    run = make_member(config)

    def update(settings):
        state = run.init(jax.random.key(0), settings)
        return run.learn(state, run.collect(state))

    return config, update


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("dpo", "ppo") else pytest.mark.slow) for name in ALL]
)
def test_a_batch_counted_in_steps_is_reported_by_every_method(name):
    config, update = update_counted_in_steps(name)
    _, metrics = jax.eval_shape(update, arrays_of(traced_settings(config)))
    counted = {"num_episodes"} if name in OF_EPISODES else set()
    assert metrics.keys() == OF_EVERY_UPDATE | set(get_method(config).metrics) | counted


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALL, *OF_LANGUAGE])
def test_every_method_learns_from_a_batch_counted_in_steps(name):
    config, update = update_counted_in_steps(name)
    state, metrics = jax.jit(update)(arrays_of(traced_settings(config)))
    assert 50 <= metrics["env_steps"] < 50 + M * T
    assert all(np.isfinite(value) for value in metrics.values())
    start = make_member(config).init(jax.random.key(0), arrays_of(traced_settings(config)))
    assert distance(state.learner.params, start.learner.params) > 1e-3


def update_that_remembers(name):
    """An update of a method whose policy is a GRU, and its config."""
    config = config_of(name, policy={"network": "gru", "hidden_sizes": (6, 4)})
    run = make_member(config)

    def update(settings, seed):
        state = run.init(jax.random.key(seed), settings)
        return run.learn(state, run.collect(state))

    return config, run, update


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("grpo", "ppo") else pytest.mark.slow) for name in ALL]
)
def test_a_policy_that_remembers_is_reported_by_every_method(name):
    config, _, update = update_that_remembers(name)
    state, metrics = jax.eval_shape(update, arrays_of(traced_settings(config)), 0)
    assert metrics.keys() == OF_EVERY_UPDATE | set(get_method(config).metrics)
    assert "cell" in str(jax.tree.map(lambda leaf: 0, state.learner.params))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_method_learns_with_a_policy_that_remembers_and_gives_the_same_bits_twice(name):
    config, run, update = update_that_remembers(name)
    settings, learn = arrays_of(traced_settings(config)), jax.jit(update)
    first, same, other = (learn(settings, seed) for seed in (0, 0, 1))
    assert_identical(first[0].learner, same[0].learner)
    assert distance(first[0].learner.params, other[0].learner.params) > 1e-3
    assert all(np.isfinite(value) for value in first[1].values())
    start = run.init(jax.random.key(0), settings)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first[0].learner.params, start.learner.params)
    assert min(jax.tree.leaves(moved)) > 0
    together, _ = jax.jit(jax.vmap(update, in_axes=(None, 0)))(settings, jnp.arange(2))
    assert_close(jax.tree.map(lambda leaf: leaf[1], together.learner.params), other[0].learner.params)


OF_EPISODES = [name for name in ALL if name == HANDED_IN or METHODS[name].sees is not Sees.SEGMENTS]
WITH_EPOCHS = [name for name in OF_EPISODES if isinstance(get_method_settings(config_of(name)), EpochsConfig)]
WITH_REFERENCE = [name for name in ALL if isinstance(get_method_settings(config_of(name)), ReferenceConfig)]
WITH_KL = [name for name in WITH_REFERENCE if hasattr(get_method_settings(config_of(name)), "kl_coef")]


@pytest.mark.parametrize("name", [*OF_EPISODES, *(pytest.param(name, marks=pytest.mark.slow) for name in OF_LANGUAGE)])
def test_garbage_in_masked_steps_changes_nothing(name):
    one = member(name)
    mask = one.batch.mask
    assert not mask.all()
    spoiled = one.batch._replace(
        **{part: jnp.where(mask, getattr(one.batch, part), jnp.nan) for part in ("rewards", "entropies", "log_probs")},
        actions=jnp.where(mask, one.batch.actions, 0),
    )
    clean, with_garbage = (one.learn(one.start, batch) for batch in (one.batch, spoiled))
    assert_identical(clean[0].learner, with_garbage[0].learner)
    assert_identical(clean[1], with_garbage[1])


@pytest.mark.parametrize("name", WITH_EPOCHS)
def test_epochs_are_steps_on_the_same_batch_and_metrics_those_of_the_last(name):
    one = member(name)
    state, metrics = one.learn(one.start, one.batch)
    algorithm, traced = one.functions.algorithm, with_settings(one.config, one.settings)

    @jax.jit
    def step(learner):
        loss = algorithm.loss(traced, one.start.learner, one.batch)
        return gradient_step(loss, make_optimizer(traced.optimizer, 15), *learner)

    learner, seen = (one.start.learner.params, one.start.learner.optimizer_state), []
    for _ in range(3):
        *learner, of_step = step(learner)
        seen.append(of_step)
    assert_close(learner[0], state.learner.params)
    assert_close(seen[-1], {metric: metrics[metric] for metric in seen[-1]}, rtol=1e-3, atol=1e-5)
    assert abs(seen[0]["loss"] - seen[-1]["loss"]) > 1e-4


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_reference_begins_as_the_policy_and_is_then_that_of_the_update_before(name):
    assert get_method_settings(member(name).config).reference == "previous"
    start, first, second = (member(name).after(updates)[0].learner for updates in (0, 1, 2))
    assert_identical(start.reference, start.params)
    assert_identical(first.reference, start.params)
    assert_identical(second.reference, first.params)


@pytest.mark.parametrize("name", WITH_KL)
def test_lambda_changes_what_the_second_update_does(name):
    one = member(name)
    weight = name_setting(one.config, "kl_coef")
    ends = [one.after(2, **{weight: value})[0].learner.params for value in (0.0, 0.5)]
    assert distance(*ends) > 1e-4


def test_a_method_without_a_reference_keeps_none():
    for name in set(ALL) - set(WITH_REFERENCE):
        assert member(name).start.learner.reference is None


def test_the_sections_of_the_configs_are_those_of_the_records():
    for name, method in METHODS.items():
        assert getattr(MethodSettings(), name) == method.settings
    of_both = {name: method for name, method in METHODS.items() if method.language is not None}
    assert {**LANGUAGE_METHODS, **of_both} == LANGUAGE_METHODS
    for name, method in LANGUAGE_METHODS.items():
        assert getattr(LanguageMethodSettings(), name) == method.language.settings

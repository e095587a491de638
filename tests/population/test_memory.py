"""`config.memory`: what `auto` chooses, and that memory does not grow with the horizon where nothing is kept."""

import jax
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose, assert_same_products

from haepo_jax.environments import make
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population, memory
from haepo_jax.population.member import make_member
from haepo_jax.population.memory import choose_piece_rows, step_bytes, with_memory
from haepo_jax.rollouts.episodes import Trajectories

CARTPOLE = {"env": "CartPole-v1", "num_seeds": 2, "num_trajectories": 4, "num_updates": 2, "horizon": 40}


def config_of(**changes):
    return fixed_config(CARTPOLE | changes)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "LongChain-haepo", "GaussianBandit-haepo"])
def test_step_bytes_are_the_bytes_that_kept_trajectories_hold_of_a_step(env):
    config = fixed_config({"env": env, "memory": "remat"})
    functions = make_member(config)
    batch = jax.eval_shape(lambda: functions.collect(functions.init(jax.random.key(0), {})))
    assert isinstance(batch, Trajectories)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch))
    assert kept == config.num_trajectories * functions.horizon * step_bytes(functions.environment)


@pytest.mark.parametrize(
    ("algorithm", "small", "large"),
    [("haepo", "remat", "recompute"), ("reinforce", "remat", "recompute"), ("grpo", "remat", "remat")],
)
def test_memory_auto_keeps_steps_where_they_fit_or_the_loss_needs_them(monkeypatch, algorithm, small, large):
    config, environment = config_of(algorithm=algorithm), make("CartPole-v1")
    monkeypatch.setattr(memory, "device_bytes", lambda: 1000 * 2 * step_bytes(environment) / 0.8)
    assert with_memory(config, environment, 1000).memory == small
    assert with_memory(config, environment, 1001).memory == large


GIB = 2**30
ROW = 8 * (64 + 64 + 2)  # bytes of a step of the default network on CartPole


@pytest.mark.parametrize(
    ("members", "rows"), [(1, 8192), (32, 8192), (1024, 8192), (2048, 4096), (8192, 1024), (16384, 512), (10**6, 128)]
)
def test_pieces_of_a_gpu_take_a_quarter_of_its_memory_and_those_of_a_cpu_stay(monkeypatch, members, rows):
    monkeypatch.setattr(memory, "device_bytes", lambda: 59 * GIB)  # three quarters of 80 GB
    assert choose_piece_rows("gpu", members, ROW) == rows
    assert members * rows * ROW <= 59 * GIB / 4 or rows == 128
    assert [choose_piece_rows(platform, members, ROW) for platform in ("cpu", "tpu")] == [128, 128]


@pytest.mark.parametrize(
    ("platform", "members", "expected"),
    [
        ("gpu", 32, ("store", 8192, 5)),
        ("gpu", 1024, ("store", 8192, 5)),
        ("gpu", 8192, ("remat", 1024, 5)),
        ("gpu", 10**6, ("recompute", 128, 5)),
        ("cpu", 32, ("remat", 128, 1)),
        ("cpu", 1024, ("remat", 128, 1)),
        ("tpu", 1024, ("remat", 128, 1)),
    ],
)
def test_what_is_left_open_follows_from_the_device(monkeypatch, platform, members, expected):
    monkeypatch.setattr(memory, "device_bytes", lambda: 59 * GIB)
    config = fixed_config({"env": "CartPole-v1", "num_trajectories": 16})
    found = with_memory(config, make("CartPole-v1"), members * 16 * 500, members=members, platform=platform)
    assert (found.memory, found.piece_rows, found.unrolled_steps) == expected
    assert memory.activation_bytes(config, make("CartPole-v1")) == ROW


def test_what_is_set_stays_whatever_the_device(monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda: 59 * GIB)
    config = config_of(memory="remat", piece_rows=64, unrolled_steps=3)
    for platform in ("cpu", "gpu"):
        found = with_memory(config, make("CartPole-v1"), 1000, members=8, platform=platform)
        assert (found.memory, found.piece_rows, found.unrolled_steps) == ("remat", 64, 3)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_on_a_gpu_segments_stay_remat_and_steps_that_are_needed_are_stored_where_they_fit(monkeypatch, algorithm):
    monkeypatch.setattr(memory, "device_bytes", lambda: 59 * GIB)
    found = with_memory(config_of(algorithm=algorithm), make("CartPole-v1"), 1000, members=8, platform="gpu")
    assert found.memory == {"ppo": "remat", "grpo": "store"}[algorithm]


@pytest.mark.slow
def test_pieces_and_unrolled_steps_change_no_number_but_by_rounding():
    ends = []
    for changes in ({}, {"piece_rows": 128, "unrolled_steps": 1}, {"piece_rows": 48, "unrolled_steps": 7}):
        trained = make_population(config_of(**changes), devices=jax.devices()[:1]).run([{}], range(2))
        ends.append((dict(trained), trained.params))
    assert_same_products(*ends[:2])  # on CPU these are what is taken
    jax.tree.map(lambda one, two: assert_allclose(one, two, rtol=2e-3, atol=1e-4), ends[0], ends[2])


@pytest.mark.parametrize("chosen", ["store", "remat", "recompute"])
def test_a_memory_setting_that_is_chosen_is_not_changed(chosen):
    assert with_memory(config_of(memory=chosen), make("CartPole-v1"), 10**15).memory == chosen


def test_the_config_of_a_population_has_the_memory_that_was_chosen(monkeypatch):
    assert make_population(config_of()).config.memory == "remat"
    monkeypatch.setattr(memory, "device_bytes", lambda: 1000)
    assert make_population(config_of()).config.memory == "recompute"
    assert make_population(config_of(memory="store")).config.memory == "store"


def test_recompute_is_refused_for_methods_that_learn_from_steps():
    for algorithm in ("grpo", "ppo"):
        with pytest.raises(
            ConfigError, match=f"recompute keeps no steps, which {algorithm} learns from; it goes with"
        ):
            config_of(algorithm=algorithm, memory="recompute")


def test_recompute_is_refused_where_devices_share_trajectories():
    with pytest.raises(ConfigError, match="--trajectory_devices=2 spreads trajectories that are kept"):
        make_population(config_of(memory="recompute"), devices=some_devices(2), trajectory_devices=2)


def test_rounds_do_not_go_with_trajectories_that_are_spread_over_devices():
    with pytest.raises(ConfigError, match="spreads the episodes of one round, and config"):
        make_population(config_of(min_batch_steps=9), devices=some_devices(2), trajectory_devices=2)


@pytest.mark.slow
def test_a_population_learns_the_same_with_recompute_as_with_store():
    ends = []
    for chosen in ("recompute", "store"):
        population = make_population(config_of(memory=chosen, haepo={"num_epochs": 2}), devices=jax.devices()[:1])
        state, metrics = population.advance(population.init(), np.int32(2))
        ends.append((state.learner.params, metrics))
    for left, right in zip(*map(jax.tree.leaves, ends), strict=True):
        assert_allclose(left, right, rtol=1e-3, atol=1e-4)


def temporaries(chosen, horizon):
    """Bytes of an update of one member, by the compiler's account."""
    config = config_of(memory=chosen, horizon=horizon, num_trajectories=16)
    endless = make_member(config).environment._replace(max_steps=10**6)
    functions = make_member(config, environment=endless)
    assert functions.horizon == horizon
    state = jax.eval_shape(lambda: functions.init(jax.random.key(0), {}))
    compiled = jax.jit(lambda state: functions.learn(state, functions.collect(state))).lower(state).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_with_recompute_memory_does_not_grow_with_the_horizon():
    short, long = temporaries("recompute", 1000), temporaries("recompute", 10**6)
    assert long <= 1.2 * short

"""Measurements at parameters that stand still."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from jax.flatten_util import ravel_pytree

from experiments.studies.paper.gradient_noise import (
    estimate_signal_to_noise,
    measure_batch_gradients,
    measure_sample_sizes,
    measure_target_sizes,
    train_actor_critic,
)
from haepo_jax.config import to_json, traced_settings
from haepo_jax.population.member import make_member

POLICY = {"hidden_sizes": (4,)}
EPISODES = {"env": "CartPole-v1", "horizon": 20, "num_trajectories": 4, "policy": POLICY}
REINFORCE = fixed_config({**EPISODES, "algorithm": "reinforce"})
HAEPO = fixed_config(
    {**EPISODES, "haepo": {"score": "log_ratio", "entropy_coef": 0.0, "kl_coef": 0.0, "num_epochs": 3}}
)
PPO = fixed_config(
    {"algorithm": "ppo", "num_trajectories": 2, "policy": POLICY, "ppo": {"num_steps": 16, "num_minibatches": 2}}
)
BATCHES = 16


def ppo(**changes):
    return fixed_config(to_json(PPO) | {"ppo": to_json(PPO)["ppo"] | changes})


@pytest.fixture(scope="module")
def points():
    return train_actor_critic(PPO, (0, 1))


@pytest.fixture(scope="module")
def slopes(points):
    return {
        config.algorithm: measure_batch_gradients(config, points, batches=BATCHES)
        for config in (REINFORCE, HAEPO, PPO)
    }


def assert_identical(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_points_are_those_of_training(points):
    functions = make_member(PPO)
    settings = {name: jnp.asarray(value) for name, value in traced_settings(PPO).items()}
    first = jax.jit(functions.init)(jax.random.key(0), settings)
    second = jax.jit(lambda state: functions.learn(state, functions.collect(state))[0])(first)
    assert len(points) == 2
    assert_identical(points[0], jax.device_get(first.learner.params))
    assert_identical(points[1], jax.device_get(second.learner.params))


@pytest.mark.slow
def test_gradients_are_of_the_policy_alone(points, slopes):
    size = ravel_pytree(points[0]["policy"])[0].size
    assert size < ravel_pytree(points[0])[0].size
    for measured in slopes.values():
        assert [values.shape for values, _ in measured] == [(BATCHES, size)] * 2
        assert all(np.isfinite(values).all() and np.abs(values).max() > 0 for values, _ in measured)


@pytest.mark.slow
def test_the_critics_share_of_the_loss_is_left_out(points, slopes):
    """Policy and critic share no parameters, so that its weight in the loss has no part in the policy's gradient."""
    for (other, _), (values, _) in zip(
        measure_batch_gradients(ppo(value_coef=100.0), points, batches=BATCHES), slopes["ppo"], strict=True
    ):
        np.testing.assert_allclose(other, values, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_batches_are_fresh_and_their_steps_counted(slopes):
    for measured in slopes.values():
        for values, _ in measured:
            assert len(np.unique(values, axis=0)) == BATCHES
    assert [env_steps for _, env_steps in slopes["ppo"]] == [2 * 16, 2 * 16]
    assert all(4 <= env_steps <= 4 * 20 for _, env_steps in slopes["reinforce"])


@pytest.mark.slow
def test_plain_haepo_is_reinforce_on_fresh_data(slopes):
    """With log_ratio, z-scores, temperature 1 and no regularisers they differ by the scale of the loss alone."""
    for (left, steps), (right, same_steps) in zip(slopes["haepo"], slopes["reinforce"], strict=True):
        assert steps == same_steps
        scale = (left * right).sum() / np.square(right).sum()
        assert scale > 0
        np.testing.assert_allclose(left, scale * right, rtol=1e-3, atol=1e-4 * np.abs(left).max())
        ours, theirs = estimate_signal_to_noise(left), estimate_signal_to_noise(right)
        for name in ("snr", "low", "high"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-6)


def gaussian(seed, *, snr, batches=64, size=40):
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.2, 2.0, size=size)
    mean = rng.normal(size=size)
    mean *= np.sqrt(snr * np.square(spread).sum()) / np.linalg.norm(mean)
    return np.float32(mean + spread * rng.normal(size=(batches, size)))


@pytest.mark.parametrize("snr", [0.01, 0.1, 0.5])
def test_the_interval_holds_the_true_ratio(snr):
    found = [estimate_signal_to_noise(gaussian(seed, snr=snr)) for seed in range(40)]
    assert sum(one["low"] <= snr <= one["high"] for one in found) >= 34
    assert all(one["low"] <= one["snr"] <= one["high"] for one in found)


@pytest.mark.parametrize("batches", [16, 64])
def test_the_interval_holds_a_large_ratio(batches):
    found = [estimate_signal_to_noise(gaussian(seed, snr=10.0, batches=batches, size=500)) for seed in range(40)]
    assert sum(one["low"] <= 10.0 <= one["high"] for one in found) >= 34


@pytest.mark.parametrize("snr", [0.01, 0.1, 1.0, 10.0])
def test_the_ratio_has_no_bias(snr):
    """The mean of few batches is longer than the expected gradient; that is taken out."""
    found = [estimate_signal_to_noise(gaussian(seed, snr=snr, batches=16))["snr"] for seed in range(200)]
    error = np.std(found) / np.sqrt(200)
    assert abs(np.mean(found) - snr) < 4 * error + 0.01 * snr


def test_noise_alone_has_an_interval_that_reaches_0():
    for seed in range(20):
        found = estimate_signal_to_noise(gaussian(seed, snr=0.0))
        assert found["low"] == 0.0 and found["snr"] < 0.02


def test_more_batches_make_the_interval_shorter():
    few, many = (estimate_signal_to_noise(gaussian(0, snr=0.3, batches=batches)) for batches in (32, 512))
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_norm_and_variance_are_those_of_the_batches():
    values = gaussian(1, snr=0.3).astype(np.float64)
    found = estimate_signal_to_noise(values)
    assert found["norm"] == pytest.approx(np.linalg.norm(values.mean(axis=0)))
    assert found["variance"] == pytest.approx(values.var(axis=0, ddof=1).sum())
    assert found["snr"] == pytest.approx((found["norm"] ** 2 - found["variance"] / 64) / found["variance"])


def test_the_ratio_does_not_depend_on_the_scale_of_the_loss():
    values = gaussian(2, snr=0.2)
    plain, scaled = estimate_signal_to_noise(values), estimate_signal_to_noise(values * 1024)
    assert scaled["norm"] == pytest.approx(1024 * plain["norm"])
    assert [scaled[name] for name in ("snr", "low", "high")] == [plain[name] for name in ("snr", "low", "high")]


CHAIN = fixed_config(
    {
        "env": "LongChain-haepo",
        "env_params": {"length": 10**6},
        "horizon": 200,
        "num_trajectories": 8,
        "policy": {"hidden_sizes": (16,)},
        "optimizer": {"learning_rate": 1e-7},
    }
)
HORIZONS = (1, 20, 200)


def sizes(sharpness, learning_rate=1e-7):
    optimizer = dataclasses.replace(CHAIN.optimizer, learning_rate=learning_rate)
    config = dataclasses.replace(CHAIN, optimizer=optimizer)
    return measure_sample_sizes(config, sharpness=sharpness, horizons=HORIZONS, groups=5)


@pytest.fixture(scope="module")
def sharp():
    return sizes(200.0)


def test_sample_sizes_lie_between_1_and_m(sharp):
    assert set(sharp) == {"sum", "mean", "log_ratio", "step_std"}
    assert sharp["step_std"].shape == (5,) and (sharp["step_std"] > 0).all()
    for name in ("sum", "mean", "log_ratio"):
        assert sharp[name].shape == (5, len(HORIZONS))
        assert (sharp[name] >= 1 - 1e-5).all() and (sharp[name] <= 8 + 1e-4).all()


def test_log_ratio_is_m_on_fresh_data(sharp):
    np.testing.assert_allclose(sharp["log_ratio"], 8.0, rtol=1e-3)


def test_the_papers_score_saturates_as_trajectories_grow(sharp):
    means = sharp["sum"].mean(axis=0)
    assert means[0] > means[1] > means[2]
    assert means[2] < 4.0


def test_the_mean_score_evens_out_as_trajectories_grow(sharp):
    assert sharp["mean"].mean(axis=0)[2] > 7.0


def test_one_step_is_scored_alike_by_sum_and_mean(sharp):
    np.testing.assert_allclose(sharp["sum"][:, 0], sharp["mean"][:, 0], rtol=1e-5)


def test_a_policy_near_uniform_saturates_later(sharp):
    flat = sizes(1.0, learning_rate=0.05)
    assert (flat["step_std"] < sharp["step_std"]).all()
    assert (flat["sum"][:, 2] > sharp["sum"][:, 2]).all()
    assert flat["log_ratio"].mean(axis=0)[2] < 7.9  # after a step that is long


@pytest.fixture(scope="module")
def target_sizes():
    """Of 32 bandits, whose returns are 0 or 1, at temperatures from one end to the other."""
    config = fixed_config(
        {"env": "BernoulliBandit-haepo", "env_kwargs": {"num_arms": 3}, "num_trajectories": 4, "policy": POLICY}
    )
    options = {"temperatures": (1e-4, 0.3, 1e4), "groups": 32, "varied": "env_params.instance"}
    return measure_target_sizes(config, normalization="sum", **options)


def test_the_target_is_the_best_trajectories_alone_at_one_end_and_all_at_the_other(target_sizes):
    """Those with a return of 1 tie for the best."""
    sharpest, middle, flattest = target_sizes[~np.isnan(target_sizes[:, 0])].T
    np.testing.assert_allclose(sharpest, sharpest.round(), atol=1e-4)
    assert set(sharpest.round()) == {1, 2, 3}
    np.testing.assert_allclose(flattest, 4.0, rtol=1e-4)
    assert (sharpest - 1e-4 < middle).all() and (middle < flattest).all()


def test_a_batch_of_equal_returns_has_no_target(target_sizes):
    none = np.isnan(target_sizes).any(axis=1)
    assert 0 < none.sum() < 32 and np.isnan(target_sizes[none]).all()


def test_a_batch_whose_returns_do_not_sum_to_a_positive_number_has_a_target_under_z_scores_alone():
    config = fixed_config(
        {"env": "GaussianBandit-haepo", "env_kwargs": {"num_arms": 3}, "num_trajectories": 4, "policy": POLICY}
    )
    options = {"temperatures": (0.1,), "groups": 32, "varied": "env_params.instance"}
    by_sum, by_zscore = (measure_target_sizes(config, normalization=kind, **options) for kind in ("sum", "zscore"))
    assert not np.isnan(by_zscore).any() and 0.2 < np.isnan(by_sum).mean() < 0.8

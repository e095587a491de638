"""Episodes as wholes: sums from kept steps and from play that keeps none, and what is reported of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.counting_environments import M, counter, params_for, play, policy_for
from helpers.tolerances import assert_allclose

from haepo_jax.environments import make
from haepo_jax.networks import action_log_probs
from haepo_jax.rollouts import episode_stats
from haepo_jax.rollouts.episode_stats import episode_metrics, episode_stats_of
from haepo_jax.rollouts.episodes import EpisodeUnroll, collect

ENDLESS = {"theta_threshold_radians": 1e9, "x_threshold": 1e9}


@pytest.fixture(scope="module")
def counted():
    return play(counter())


def metrics_of(trajectories):
    return episode_metrics(episode_stats_of(trajectories))


def unroll_of(environment, horizon, *, num_trajectories=M, env_params=None):
    policy = policy_for(environment)
    return EpisodeUnroll(
        environment, policy, params_for(policy), jax.random.key(0), num_trajectories, horizon, env_params or {}
    )


class TestPlay:
    """Statistics of episodes whose steps are not kept."""

    @pytest.mark.parametrize("horizon", [3, 33])
    def test_play_gives_the_statistics_of_the_episodes_that_collect_keeps(self, horizon):
        played = jax.jit(lambda discount: episode_stats.play(unroll_of(counter(), horizon), discount))
        batch = play(counter(), horizon=horizon)
        for discount in (1.0, 0.9, 0.0):
            stats, expected = played(discount), episode_stats_of(batch, discount)
            jax.tree.map(functools.partial(assert_allclose, rtol=2e-6), stats, expected)
            assert stats.lengths.dtype == expected.lengths.dtype == jnp.int32

    @pytest.mark.slow
    @pytest.mark.parametrize("horizon", [37, 150])
    def test_play_is_exact_over_several_chunks_and_a_horizon_within_one(self, horizon):
        unroll = unroll_of(make("CartPole-v1"), horizon, num_trajectories=2, env_params=ENDLESS)
        batch = collect(
            unroll.environment,
            unroll.policy,
            unroll.params,
            unroll.key,
            num_trajectories=2,
            horizon=horizon,
            env_params=ENDLESS,
        )
        stats = jax.jit(lambda: episode_stats.play(unroll, 0.99))()
        np.testing.assert_array_equal(stats.lengths, horizon)
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-5), stats, episode_stats_of(batch, 0.99))

    def test_log_likelihoods_under_other_parameters_are_the_same_on_the_way_and_afterwards(self):
        unroll = unroll_of(make("CartPole-v1"), 70, num_trajectories=4)
        other = params_for(unroll.policy, seed=3)
        batch = play(make("CartPole-v1"), num_trajectories=4, horizon=70)
        log_probs = action_log_probs(unroll.policy, other, batch.observations, batch.actions)
        expected = np.where(batch.mask, log_probs, 0).sum(-1)
        measure = episode_stats.measure_log_likelihoods(unroll.policy, other)
        both = episode_stats.measure_both(episode_stats.measure_stats(0.9), measure)
        stats, judged = jax.jit(lambda: episode_stats.sum_over_chunks(unroll, both))()
        assert_allclose(judged, expected, rtol=1e-5)
        assert_allclose(episode_stats.sum_over_chunks(unroll, measure), expected, rtol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, stats, jax.jit(lambda: episode_stats.play(unroll, 0.9))())

    def test_a_sum_over_very_many_steps_loses_nothing(self):
        """A float32 alone is off by 2 in the last of these digits after so many chunks, and stands still at 2^24."""

        def step(params, key, state, action):
            return (
                counter()
                .step(params, key, state._replace(length=jnp.int32(0)), action)
                ._replace(reward=jnp.float32(16777.217), done=jnp.bool_(False))
            )

        environment = counter()._replace(step=step)
        horizon = 64_000
        stats = jax.jit(lambda: episode_stats.play(unroll_of(environment, horizon, num_trajectories=2)))()
        np.testing.assert_allclose(stats.returns, horizon * float(np.float32(16777.217)), rtol=1e-7)


class TestMetrics:
    def test_episode_metrics_are_means_as_counted_by_hand(self, counted):
        lengths = np.asarray(counted.mask).sum(-1)
        returns = np.array([sum(10.0**t for t in range(length)) for length in lengths])
        metrics = metrics_of(counted)
        assert metrics["episode_return"] == pytest.approx(returns.mean(), rel=1e-6)
        assert metrics["double"] == pytest.approx(2 * returns.mean(), rel=1e-6)
        assert metrics["episode_length"] == lengths.mean()
        assert metrics["env_steps"] == lengths.sum() and metrics["env_steps"].dtype == jnp.int32
        entropies = np.concatenate([row[:n] for row, n in zip(np.asarray(counted.entropies), lengths, strict=True)])
        assert metrics["policy_entropy"] == pytest.approx(entropies.mean(), rel=1e-6)
        assert set(metrics) == {"episode_return", "episode_length", "policy_entropy", "env_steps", "double"}

    def test_episode_metrics_leave_masked_steps_out(self, counted):
        def garbage(values):
            return jnp.where(counted.mask, values, jnp.nan)

        spoiled = counted._replace(
            rewards=garbage(counted.rewards),
            entropies=garbage(counted.entropies),
            info_metrics={"double": garbage(counted.info_metrics["double"])},
        )
        jax.tree.map(np.testing.assert_array_equal, metrics_of(spoiled), metrics_of(counted))

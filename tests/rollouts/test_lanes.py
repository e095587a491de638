"""Agents are lanes of the environments that they share: each has its own steps, and all begin anew together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toy_agents import NUM_AGENTS, make_relay

from haepo_jax.config import PolicyConfig
from haepo_jax.environments.agents import Seen, as_lanes
from haepo_jax.networks import make_policy, make_torso
from haepo_jax.rollouts.episode_stats import EpisodeStats, episode_metrics, episode_stats_of, join_agents
from haepo_jax.rollouts.episodes import collect
from haepo_jax.rollouts.segments import collect_segment, segment_metrics, start

NUM = 4  # environments


@pytest.fixture(scope="module")
def lanes():
    return as_lanes(make_relay(), Seen(number=True))


@pytest.fixture(scope="module")
def policy(lanes):
    torso = make_torso(PolicyConfig(hidden_sizes=()), lanes.feature_shape)
    return make_policy(
        lanes.feature_shape, lanes.action_space, make_torso=torso, initial_log_std=0.0, mask_size=lanes.mask_size
    )


@pytest.fixture(scope="module")
def episodes(lanes, policy):
    def play(key):
        return collect(lanes, policy, policy.init(key), key, num_trajectories=NUM, horizon=5)

    return jax.device_get(jax.jit(play)(jax.random.key(0)))


def test_each_agent_has_an_episode_of_its_own_length(episodes):
    assert episodes.mask.sum(axis=1).tolist() == [1, 2, 3] * NUM
    assert episodes.observations.shape == (NUM * NUM_AGENTS, 5, 2 + 3 + 4)
    np.testing.assert_array_equal(episodes.observations[:, 0, 2:5], np.tile(np.eye(3), (NUM, 1)))
    drawn = episodes.observations[:, 0, 1].reshape(NUM, NUM_AGENTS)
    assert (drawn == drawn[:, :1]).all() and len(set(drawn[:, 0].tolist())) == NUM


def test_each_agent_acts_within_its_own_mask_and_earns_by_its_own_action(episodes):
    agent = np.tile(np.arange(NUM_AGENTS), NUM)[:, None]
    mask, actions, rewards = (np.asarray(x) for x in (episodes.mask, episodes.actions, episodes.rewards))
    assert (actions <= agent + 1)[mask].all() and (actions == agent + 1)[mask].any()
    np.testing.assert_array_equal(rewards[mask], (10.0 * (agent + 1) + actions)[mask])


def test_a_team_has_the_mean_return_and_the_longest_episode(lanes, episodes):
    stats = episode_stats_of(episodes)
    teams = join_agents(stats, NUM_AGENTS)
    np.testing.assert_allclose(teams.returns, stats.returns.reshape(NUM, 3).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(teams.log_likelihoods, stats.log_likelihoods.reshape(NUM, 3).sum(axis=1), rtol=1e-6)
    assert teams.lengths.tolist() == [3] * NUM and teams.info_metrics["ticks"].tolist() == [3] * NUM
    metrics = episode_metrics(stats, jnp.ones(NUM * 3, bool), environment=lanes)
    assert metrics["env_steps"] == 3 * NUM and metrics["num_episodes"] == NUM and metrics["episode_length"] == 3
    returns = stats.returns.reshape(NUM, 3)
    np.testing.assert_allclose(metrics["return_first"], returns[:, :2].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["return_last"], returns[:, 2].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["policy_entropy"], stats.entropies.sum() / stats.lengths.sum(), rtol=1e-5)


def test_entropy_is_the_mean_over_all_steps_of_all_agents_however_long_each_lasts(lanes):
    lengths = np.array([1, 2, 3, 4, 4, 4])
    nothing = jnp.zeros(6)
    stats = EpisodeStats(nothing, nothing, nothing, jnp.array(lengths), jnp.array([1.0, 0, 0, 0, 0, 8]), {})
    assert episode_metrics(stats, environment=lanes)["policy_entropy"] == 9 / 18


def test_an_agent_that_is_done_waits_until_all_are_and_begins_anew_with_them(lanes, policy):
    @jax.jit
    def play(key):
        running = start(lanes, {}, key, NUM)
        return collect_segment(lanes, policy, policy.init(key), running, key, num_steps=7, horizon=10, env_params={})

    segment = play(jax.random.key(2))
    mask = np.asarray(segment.mask).reshape(NUM, NUM_AGENTS, 7)
    T, F = True, False
    for agent, counts in enumerate(([T, F, F, T, F, F, T], [T, T, F, T, T, F, T], [T] * 7)):
        assert (mask[:, agent] == counts).all()
    ends = [[T] * 7, [F, T, T, F, T, T, F], [F, F, T, F, F, T, F]]
    assert segment.done.reshape(NUM, NUM_AGENTS, 7)[0].tolist() == ends
    assert segment.resets.reshape(NUM, NUM_AGENTS, 7)[0, 2].tolist() == [F, F, F, T, F, F, T]
    assert (np.asarray(segment.rewards)[~np.asarray(segment.mask)] == 0).all()
    times = segment.observations.reshape(NUM, NUM_AGENTS, 7, -1)[..., 0]
    assert (np.asarray(times) == [0, 1, 2, 0, 1, 2, 0]).all()
    assert segment.running.waits.tolist() == [T, F, F] * NUM
    metrics = segment_metrics(segment, environment=lanes)
    rewards = np.asarray(segment.rewards).reshape(NUM, NUM_AGENTS, 7)
    # Agent 0 has already ended an episode more, which counts when all have.
    newest = np.stack([rewards[:, 0, 3], rewards[:, 1, 3:5].sum(axis=1), rewards[:, 2, 3:6].sum(axis=1)])
    np.testing.assert_allclose(metrics["episode_return"], newest.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["return_last"], newest[2].mean(), rtol=1e-6)
    assert metrics["episode_length"] == 3 and metrics["env_steps"] == 7 * NUM and metrics["ticks"] == 3

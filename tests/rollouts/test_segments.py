"""Segments: episodes that continue from one segment to the next, their ends, and what is reported of them."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.counting_environments import LONGEST, Count, observe, policy_for, reset
from helpers.tolerances import assert_allclose

from haepo_jax.environments import Box, Discrete, Environment, make
from haepo_jax.environments.interface import Step
from haepo_jax.rollouts.segments import collect_segment, segment_metrics, start

N, S = 6, 7
NEVER = 1000


@functools.cache
def counter(action_space=Discrete(3)):  # noqa: B008
    """Observes (steps done, length of the episode), the length drawn from the key.

    The reward of step t is t + 1, times a parameter; the measure is 100 at the last step. An episode of odd length
    terminates, one of even length is cut by the environment.
    """

    def step(params, key, state, action):
        after = Count(state.steps + 1, state.length)
        done = after.steps == state.length
        reward = params.get("scale", 1.0) * jnp.float32(after.steps)
        info_metrics = {"ends": jnp.where(done, 100.0, 0.0)}
        return Step(after, observe(after), reward, done, done & (state.length % 2 == 1), info_metrics)

    return Environment("counter", (2,), action_space, LONGEST, {"scale": 1.0}, ("ends",), reset, step)


@functools.cache
def params_for(policy):
    """Parameters of a policy whose actions depend on what it observes."""
    noise = jax.random.key(9)
    return jax.tree.map(lambda x: x + jax.random.normal(noise, x.shape), policy.init(jax.random.key(0)))


@functools.cache
def player(environment, num_steps=S, horizon=NEVER):
    """`(running, key, environment's parameters) -> segment`, compiled once for all tests."""
    policy = policy_for(environment)
    params = params_for(policy)

    def play(running, key, env_params):
        return collect_segment(
            environment,
            policy,
            params,
            running,
            key,
            num_steps=num_steps,
            horizon=horizon,
            env_params=env_params,
        )

    return jax.jit(play)


@functools.cache
def starter(environment):
    return jax.jit(lambda env_params, key: start(environment, env_params, key, N))


@functools.cache
def segments(environment, number, horizon=NEVER, scale=None, seed=0):
    """So many segments in a row, on the host."""
    env_params = {} if scale is None else {"scale": jnp.float32(scale)}
    running, result = starter(environment)(env_params, jax.random.key(seed)), []
    for k in range(number):
        segment = player(environment, horizon=horizon)(running, jax.random.key(100 + k), env_params)
        result.append(segment)
        running = segment.running
    return jax.device_get(result)


def joined(parts):
    """One long segment, as it ends."""
    return type(parts[0])(
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in parts[0]._fields[:-2]),
        parts[-1].running,
    )


class Episode(NamedTuple):
    """An episode on the host, so far."""

    returns: float
    length: int
    ends: float


def played_by_hand(environment_row, steps, horizon=NEVER, scale=1.0):
    """The ended episodes and the current one of one environment, from the lengths at its episodes' first steps."""
    ended = []
    current = Episode(0.0, 0, 0.0)
    for t in range(steps):
        length = int(environment_row[t, 1])
        assert int(environment_row[t, 0]) == current.length
        done = current.length + 1 == length
        current = Episode(
            current.returns + scale * (current.length + 1), current.length + 1, current.ends + 100.0 * done
        )
        if done or current.length == horizon:
            ended.append(current)
            current = Episode(0.0, 0, 0.0)
    return ended, current


CASES = [
    pytest.param(1, NEVER, None, id="one"),
    pytest.param(4, NEVER, None, id="four", marks=pytest.mark.slow),
    pytest.param(3, 3, None, id="cut at 3"),
    pytest.param(2, 1, None, id="cut at 1", marks=pytest.mark.slow),
    pytest.param(2, NEVER, 2.5, id="another parameter"),
]


class TestEpisodesByHand:
    @pytest.mark.parametrize(("number", "horizon", "scale"), CASES)
    def test_totals_are_those_of_the_newest_ended_and_of_the_current_episode(self, number, horizon, scale):
        parts = segments(counter(), number, horizon, scale)
        whole, running = joined(parts), parts[-1].running
        lengths = set()
        for n in range(N):
            ended, current = played_by_hand(whole.observations[n], number * S, horizon, scale or 1.0)
            assert running.has_ended[n] == bool(ended)
            lengths |= {episode.length for episode in ended}
            for totals, episode in ((running.last, ended[-1]), (running.current, current)):
                assert totals.returns[n] == pytest.approx(episode.returns)
                assert totals.lengths[n] == episode.length
                assert totals.info_metrics["ends"][n] == episode.ends
        assert lengths == set(range(1, min(LONGEST, horizon) + 1)) or (number == 1 and len(lengths) > 2)

    def test_an_episode_that_has_not_ended_is_in_no_metric(self):
        environment = counter()
        running = starter(environment)({}, jax.random.key(0))
        segment = jax.device_get(player(environment, num_steps=2)(running, jax.random.key(1), {}))
        lengths = segment.observations[:, 0, 1]
        has_ended = lengths <= 2
        assert (segment.running.has_ended == has_ended).all() and 0 < has_ended.sum() < N
        newest = [played_by_hand(row, 2)[0][-1] for row in segment.observations[has_ended]]
        metrics = segment_metrics(segment)
        assert metrics["episode_return"] == pytest.approx(np.mean([episode.returns for episode in newest]))
        assert metrics["episode_length"] == pytest.approx(np.mean([episode.length for episode in newest]))
        assert metrics["ends"] == pytest.approx(100.0)

    def test_before_any_episode_has_ended_the_return_is_nan(self):
        environment = counter()
        running = starter(environment)({}, jax.random.key(0))
        never_ends = running.state._replace(length=jnp.full((N,), LONGEST))
        running = dataclasses.replace(running, state=never_ends)
        metrics = segment_metrics(player(environment, num_steps=2)(running, jax.random.key(1), {}))
        assert all(np.isnan(metrics[name]) for name in ("episode_return", "episode_length", "ends"))
        assert np.isfinite(metrics["policy_entropy"]) and metrics["env_steps"] == 2 * N

    def test_segment_metrics_are_means_over_the_newest_ended_episodes(self):
        parts = segments(counter(), 4)
        newest = [played_by_hand(row, 4 * S)[0][-1] for row in joined(parts).observations]
        metrics = segment_metrics(parts[-1])
        assert metrics["episode_return"] == pytest.approx(np.mean([episode.returns for episode in newest]))
        assert metrics["episode_length"] == pytest.approx(np.mean([episode.length for episode in newest]))
        assert metrics["ends"] == pytest.approx(100.0)
        assert metrics["policy_entropy"] == pytest.approx(parts[-1].entropies.mean(), rel=1e-6)
        assert metrics["env_steps"] == N * S and metrics["env_steps"].dtype == jnp.int32
        assert set(metrics) == {"episode_return", "episode_length", "policy_entropy", "env_steps", "ends"}

    def test_an_episode_cut_at_the_horizon_reports_the_return_up_to_there(self):
        metrics = segment_metrics(segments(counter(), 2, 1)[-1])
        assert metrics["episode_return"] == metrics["episode_length"] == 1
        assert 0 <= metrics["ends"] < 100  # only those of length 1 came to their own end


class TestEnds:
    def test_next_observations_are_the_true_final_ones(self):
        whole = joined(segments(counter(), 4))
        steps, length = whole.observations[..., 0], whole.observations[..., 1]
        np.testing.assert_array_equal(whole.next_observations[..., 0], steps + 1)
        np.testing.assert_array_equal(whole.next_observations[..., 1], length)

    def test_the_next_episode_begins_after_an_end_and_only_there(self):
        """Across the borders of segments too."""
        whole = joined(segments(counter(), 4))
        done, after = whole.done[:, :-1], whole.observations[:, 1:]
        assert (after[done][:, 0] == 0).all() and done.sum() > N
        np.testing.assert_array_equal(after[~done], whole.next_observations[:, :-1][~done])
        borders = np.arange(1, 4) * S - 1
        assert not done[:, borders].all() and done[:, borders].any()

    def test_the_next_segment_begins_where_the_environments_stand(self):
        first, second = segments(counter(), 2)
        np.testing.assert_array_equal(first.running.observation, second.observations[:, 0])

    def test_done_is_where_the_environment_ends_and_terminated_where_the_task_does(self):
        whole = joined(segments(counter(), 4))
        steps, length = whole.observations[..., 0], whole.observations[..., 1]
        np.testing.assert_array_equal(whole.done, steps + 1 == length)
        np.testing.assert_array_equal(whole.terminated, whole.done & (length % 2 == 1))
        assert 0 < whole.terminated.sum() < whole.done.sum()

    def test_a_horizon_cuts_without_terminating(self):
        whole = joined(segments(counter(), 3, 3))
        steps, length = whole.observations[..., 0], whole.observations[..., 1]
        assert steps.max() == 2
        np.testing.assert_array_equal(whole.done, (steps + 1 == length) | (steps + 1 == 3))
        np.testing.assert_array_equal(whole.terminated, (steps + 1 == length) & (length % 2 == 1))
        assert (whole.done & ~whole.terminated & (length > 3)).any()

    def test_successive_episodes_differ(self):
        whole = joined(segments(counter(), 4))
        beginnings = whole.observations[whole.observations[..., 0] == 0][:, 1]
        assert set(beginnings) == set(range(1, LONGEST + 1))


class TestSteps:
    @pytest.mark.parametrize("space", [Discrete(3), Box(2)], ids=["discrete", "real"])
    def test_log_probs_and_entropies_of_a_segment_are_those_of_the_policy(self, space):
        whole, policy = joined(segments(counter(space), 1)), policy_for(counter(space))
        assert whole.actions.shape == ((N, S) if space == Discrete(3) else (N, S, 2))
        distribution = policy.apply(params_for(policy), whole.observations)
        assert_allclose(whole.log_probs, distribution.log_prob(whole.actions), rtol=1e-5, atol=1e-6)
        assert_allclose(whole.entropies, distribution.entropy(), rtol=1e-5)

    def test_rewards_are_those_of_their_step(self):
        whole = joined(segments(counter(), 2, NEVER, 2.5))
        np.testing.assert_allclose(whole.rewards, 2.5 * (whole.observations[..., 0] + 1))

    def test_a_segment_is_decided_by_its_key(self):
        running = starter(counter())({}, jax.random.key(0))
        one, same, other = (player(counter())(running, jax.random.key(k), {}) for k in (1, 1, 2))
        jax.tree.map(np.testing.assert_array_equal, one, same)
        assert not np.array_equal(one.actions, other.actions)

    def test_steps_and_environments_act_differently(self):
        actions = joined(segments(counter(), 4)).actions
        assert len({tuple(row) for row in actions}) == N
        assert len({tuple(column) for column in actions.T}) > 4

    def test_cartpole_moves_as_it_does_alone(self):
        """Its observation is its state, so that each step can be done again."""
        environment = make("CartPole-v1")
        running = starter(environment)({}, jax.random.key(0))
        segment = player(environment, num_steps=40, horizon=30)(running, jax.random.key(1), {})
        state = jax.tree.map(lambda leaf: leaf[0], running.state)

        @jax.jit
        @jax.vmap
        @jax.vmap
        def again(observation, action):
            x, x_dot, theta, theta_dot = observation
            there = state.replace(x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot)
            return environment.step({}, jax.random.key(0), there, action)

        alone = again(segment.observations, segment.actions)
        np.testing.assert_allclose(alone.observation, segment.next_observations, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(alone.terminated, segment.terminated)
        assert segment.terminated.any()


def test_the_carried_environments_keep_their_shapes_and_dtypes():
    running = starter(counter())({}, jax.random.key(0))

    def kind(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    after = player(counter())(running, jax.random.key(1), {}).running
    assert kind(after) == kind(running)


def test_segments_of_members_under_vmap_equal_those_one_by_one():
    scales, keys = jnp.array([1.0, 2.0]), jax.random.split(jax.random.key(3), 2)

    def member(scale, key):
        params = {"scale": scale}
        return player(counter())(start(counter(), params, key, N), key, params)

    together = jax.jit(jax.vmap(member))(scales, keys)
    for k in range(2):
        alone = jax.jit(member)(scales[k], keys[k])
        np.testing.assert_array_equal(together.actions[k], alone.actions)
        np.testing.assert_allclose(together.rewards[k], alone.rewards)
        np.testing.assert_array_equal(together.done[k], alone.done)

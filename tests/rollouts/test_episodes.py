"""Rollouts: complete episodes, what is masked, and which key decides what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.counting_environments import (
    LONGEST,
    M,
    T,
    counter,
    params_for,
    play,
    play_cartpole,
    player,
    policy_for,
    quitter,
)
from helpers.tolerances import assert_allclose

from haepo_jax.environments import Box, Discrete, make
from haepo_jax.rollouts.episodes import collect


@pytest.fixture(scope="module")
def counted():
    return play(counter())


@pytest.fixture(scope="module")
def cartpole():
    return play_cartpole()


class TestEpisodes:
    def test_mask_marks_the_steps_up_to_and_including_the_one_that_ends(self, counted):
        lengths = counted.observations[:, 0, 1]
        assert len(np.unique(lengths)) > 2
        np.testing.assert_array_equal(counted.mask, np.arange(T) < np.asarray(lengths)[:, None])

    def test_an_action_may_end_an_episode(self):
        batch = play(quitter())
        first_zero = np.where((batch.actions == 0).any(-1), (batch.actions == 0).argmax(-1), T - 1)
        assert len(np.unique(first_zero)) > 2
        np.testing.assert_array_equal(batch.mask, np.arange(T) <= first_zero[:, None])

    def test_observations_are_never_reset_and_stand_still_after_the_end(self, counted):
        lengths = np.asarray(counted.observations[:, :1, 1])
        np.testing.assert_array_equal(counted.observations[:, :, 1], np.broadcast_to(lengths, (M, T)))
        steps = np.asarray(counted.observations[:, :, 0])
        for m, length in enumerate(lengths[:, 0].astype(int)):
            np.testing.assert_array_equal(steps[m, :length], np.arange(length))
            assert np.unique(steps[m, length:]).size == 1  # every episode ends before T

    def test_after_the_end_the_last_valid_observation_is_repeated(self, counted):
        # What ends an episode may be infinite, and an infinity behind the mask makes the gradient NaN.
        last_valid = np.asarray(counted.observations[:, :, 0])[np.arange(M), counted.mask.sum(-1) - 1]
        after_the_end = np.asarray(counted.observations[:, :, 0])[:, LONGEST:]
        np.testing.assert_array_equal(after_the_end, np.broadcast_to(last_valid[:, None], (M, T - LONGEST)))

    def test_rewards_are_those_of_their_step(self, counted):
        np.testing.assert_allclose(
            np.where(counted.mask, counted.rewards, 0), np.where(counted.mask, 10.0 ** np.arange(T), 0)
        )

    def test_the_horizon_cuts_episodes(self, cartpole):
        lengths, cut = cartpole.mask.sum(-1), play_cartpole(horizon=10).mask.sum(-1)
        assert lengths.min() < 10 < lengths.max()
        np.testing.assert_array_equal(cut, np.minimum(lengths, 10))

    def test_an_episode_may_end_at_its_first_step(self):
        batch = play(quitter())
        assert batch.mask[:, 0].all()
        assert (batch.mask.sum(-1) == 1).any()

    def test_trajectories_have_the_documented_shapes_and_dtypes(self, counted):
        assert counted.observations.shape == (M, T, 2)
        for values in (counted.actions, counted.log_probs, counted.rewards, counted.mask, counted.entropies):
            assert values.shape == (M, T)
        assert counted.mask.dtype == bool
        assert counted.log_probs.dtype == counted.rewards.dtype == counted.entropies.dtype == jnp.float32

    def test_real_actions_have_an_axis_of_their_own(self):
        assert play(counter(Box(2))).actions.shape == (M, T, 2)

    def test_cartpole_returns_equal_lengths(self, cartpole):
        lengths = cartpole.mask.sum(-1)
        assert lengths.min() >= 5 and len(np.unique(lengths)) > 2
        np.testing.assert_array_equal((cartpole.rewards * cartpole.mask).sum(-1), lengths)

    def test_cartpole_never_acts_out_of_bounds(self, cartpole):
        position, angle = np.abs(cartpole.observations[..., 0]), np.abs(cartpole.observations[..., 2])
        assert ((position < 2.4) & (angle < 12 * np.pi / 180)).all()
        assert (cartpole.mask.sum(-1) < 24).any()


def playing_steps(horizon, members=0):
    """The steps that `counter` is asked for when episodes take `LONGEST` at most; of so many members together."""
    asked = []

    def step(params, key, state, action):
        jax.debug.callback(lambda: asked.append(1))
        return counter().step(params, key, state, action)

    environment = counter()._replace(step=step)
    policy = policy_for(environment)
    play_one = functools.partial(collect, environment, policy, params_for(policy), num_trajectories=2, horizon=horizon)
    keys = jax.random.split(jax.random.key(0), members) if members else jax.random.key(0)
    jax.block_until_ready(jax.jit(jax.vmap(play_one) if members else play_one)(keys))
    jax.effects_barrier()
    return len(asked)


class TestLongHorizons:
    @pytest.mark.parametrize("members", [0, 3])
    def test_play_stops_soon_after_the_longest_episode(self, members):
        assert playing_steps(1000, members) <= 32
        assert playing_steps(7, members) == 7

    @pytest.mark.parametrize(
        "horizon", [33, 97, *(pytest.param(horizon, marks=pytest.mark.slow) for horizon in (64, 100))]
    )
    def test_a_longer_horizon_changes_only_masked_steps(self, counted, horizon):
        longer = play(counter(), horizon=horizon)
        assert longer.mask.shape == (M, horizon) and not longer.mask[:, T:].any()
        for ours, theirs in zip(longer[1:6], counted[1:6], strict=True):
            np.testing.assert_array_equal(np.where(counted.mask, ours[:, :T], 0), np.where(counted.mask, theirs, 0))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(longer))

    @pytest.mark.parametrize("horizon", [33, *(pytest.param(horizon, marks=pytest.mark.slow) for horizon in (50, 97))])
    def test_long_episodes_are_played_to_their_end(self, horizon):
        """Where the pole cannot fall, and a horizon is no whole number of chunks."""
        policy = policy_for(make("CartPole-v1"))
        endless = {"theta_threshold_radians": 1e9, "x_threshold": 1e9}
        options = {"num_trajectories": 2, "env_params": endless}
        play_to = functools.partial(
            collect, make("CartPole-v1"), policy, params_for(policy), jax.random.key(0), **options
        )
        batch, longer = play_to(horizon=horizon), play_to(horizon=horizon + 40)
        assert batch.mask.all() and longer.mask.all()
        np.testing.assert_array_equal(batch.actions, longer.actions[:, :horizon])


class TestEnvironmentParams:
    def test_env_params_reach_the_environment_and_default_where_left_out(self, counted):
        policy = policy_for(counter())

        @jax.jit
        def rewards(scale):
            return collect(
                counter(),
                policy,
                params_for(policy),
                jax.random.key(0),
                num_trajectories=M,
                horizon=T,
                env_params={"scale": scale},
            ).rewards

        np.testing.assert_allclose(rewards(3.0), 3 * np.asarray(counted.rewards))


class TestPolicy:
    @pytest.mark.parametrize("space", [Discrete(3), Box(2)], ids=["discrete", "real"])
    @pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
    def test_log_probs_and_entropies_are_those_of_the_policy_that_sampled(self, space, greedy):
        environment = counter(space)
        batch, policy = play(environment, greedy=greedy), policy_for(environment)
        distribution = policy.apply(params_for(policy), batch.observations)
        mask = np.asarray(batch.mask)
        assert_allclose(batch.log_probs[mask], distribution.log_prob(batch.actions)[mask], rtol=1e-5, atol=1e-6)
        assert_allclose(batch.entropies[mask], distribution.entropy()[mask], rtol=1e-5)
        assert np.unique(np.asarray(batch.actions)[mask]).size > 1

    @pytest.mark.parametrize("space", [Discrete(3), Box(2)], ids=["discrete", "real"])
    def test_greedy_play_takes_the_mode(self, space):
        environment = counter(space)
        batch, policy = play(environment, greedy=True), policy_for(environment)
        mode = policy.apply(params_for(policy), batch.observations).mode()
        assert_allclose(batch.actions, mode, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(batch.actions, play(environment).actions)


class TestKeys:
    def test_the_same_key_gives_the_same_episodes(self, counted):
        jax.tree.map(np.testing.assert_array_equal, counted, play(counter()))

    def test_another_key_gives_other_starts_and_actions(self, counted):
        other = play(counter(), seed=1)
        assert not np.array_equal(counted.observations[:, 0], other.observations[:, 0])
        assert not np.array_equal(counted.actions, other.actions)

    def test_episodes_of_a_batch_differ(self):
        batch = play(quitter())
        assert len({tuple(row.tolist()) for row in batch.actions}) > 4

    def test_steps_of_an_episode_differ(self, counted):
        assert len({tuple(column.tolist()) for column in counted.actions.T}) > 2

    def test_a_longer_horizon_begins_with_the_steps_of_a_shorter_one(self, cartpole):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:, :10]), play_cartpole(horizon=10), cartpole)

    def test_episodes_of_members_under_vmap_equal_those_one_by_one(self):
        environment = make("CartPole-v1")
        policy, one = policy_for(environment), player(environment, num_trajectories=8, horizon=24)
        members = [params_for(policy, seed) for seed in range(3)]
        keys = jax.random.split(jax.random.key(5), 3)
        together = jax.jit(jax.vmap(one))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members), keys)
        for m, params in enumerate(members):
            alone = one(params, keys[m])
            np.testing.assert_array_equal(together.actions[m], alone.actions)
            np.testing.assert_array_equal(together.mask[m], alone.mask)
            assert_allclose(together.observations[m], alone.observations, rtol=1e-4, atol=1e-5)
            assert_allclose(together.log_probs[m], alone.log_probs, rtol=1e-4, atol=1e-5)
        assert not np.array_equal(together.actions[0], together.actions[1])

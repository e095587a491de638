"""Action noise that lasts: what it leaves as it was, and what it repeats."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.counting_environments import params_for, play_cartpole, policy_for
from scipy import stats

from haepo_jax.environments import Box, Discrete, Environment, make
from haepo_jax.environments.interface import Step
from haepo_jax.rollouts.episodes import EpisodeUnroll, collect
from haepo_jax.rollouts.persistence import draw_persistences

T = 40
PERSISTENCES = jnp.array([1, 4, 8, 32, 100], jnp.int32)


@functools.cache
def still(action_space):
    """Observes a random number that never changes, so that the policy is the same at all steps of an episode."""

    def reset(params, key):
        start = jax.random.normal(key, (1,))
        return start, start

    def step(params, key, state, action):
        return Step(state, state, jnp.float32(1), jnp.bool_(False), jnp.bool_(False), {})

    return Environment("still", (1,), action_space, T, {}, (), reset, step)


def play_still(action_space, episodes, *, persistences, horizon=T, seed=0):
    environment = still(action_space)
    policy = policy_for(environment)
    play = functools.partial(
        collect, environment, policy, params_for(policy), num_trajectories=episodes, horizon=horizon
    )
    return jax.jit(play)(jax.random.key(seed), persistences=persistences), policy


def noise_of(batch, policy):
    """The noise of real actions, `[M, T]`: how far each is from the mean, in deviations."""
    distribution = policy.apply(params_for(policy), batch.observations)
    return np.asarray((batch.actions - distribution.mean()) / distribution.stddev())[..., 0]


@pytest.fixture(scope="module")
def real():
    batch, policy = play_still(Box(1), 2000, persistences=jnp.tile(PERSISTENCES, 400))
    return noise_of(batch, policy).reshape(400, len(PERSISTENCES), T)


class TestDistribution:
    def test_at_each_step_real_actions_have_the_noise_of_the_policy(self, real):
        for k in range(len(PERSISTENCES)):
            for t in (0, 3, 5, 31, T - 1):
                assert stats.kstest(real[:, k, t], "norm").pvalue > 1e-5

    def test_at_each_step_discrete_actions_have_the_probabilities_of_the_policy(self):
        persistences = jnp.tile(PERSISTENCES, 400)
        batch, policy = play_still(Discrete(3), 2000, persistences=persistences)
        probabilities = policy.apply(params_for(policy), batch.observations).probs
        for persistence in PERSISTENCES:
            own = np.asarray(persistences == persistence)
            for t in (0, 3, 5, 31, T - 1):
                expected = np.asarray(probabilities, np.float64)[own, t].sum(0)
                counts = np.bincount(batch.actions[own, t], minlength=3)
                assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-5

    def test_different_episodes_have_different_noise(self, real):
        assert len(np.unique(real[:, :, 0])) > 0.99 * real[:, :, 0].size


class TestBlocks:
    def test_noise_lasts_for_the_persistence_and_is_new_after_it(self, real):
        for k, persistence in enumerate(np.asarray(PERSISTENCES)):
            block = np.arange(T) // persistence
            same = block[1:] == block[:-1]
            changes = np.abs(np.diff(real[:, k], axis=-1))
            np.testing.assert_allclose(changes[:, same], 0, atol=1e-5)
            assert (changes[:, ~same] > 1e-5).mean() > 0.99 if (~same).any() else persistence >= T

    def test_noise_of_different_blocks_is_independent(self, real):
        before, after = real[:, 1, 3], real[:, 1, 4]  # of persistence 4
        assert abs(np.corrcoef(before, after)[0, 1]) < 5 / np.sqrt(len(before))

    def test_persistence_1_is_independent_from_step_to_step(self, real):
        assert abs(np.corrcoef(real[:, 0, :-1].ravel(), real[:, 0, 1:].ravel())[0, 1]) < 5 / np.sqrt(400 * T)


class TestKeys:
    @pytest.mark.parametrize("horizon", [26, *(pytest.param(other, marks=pytest.mark.slow) for other in (7, 33))])
    def test_a_longer_horizon_begins_with_the_steps_of_a_shorter_one(self, horizon):
        """Chunks of other sizes included: 7 steps, 13 and 25, 17 and 20."""
        persistences = jnp.tile(PERSISTENCES, 2)
        longer, _ = play_still(Discrete(3), 10, persistences=persistences)
        shorter, _ = play_still(Discrete(3), 10, persistences=persistences, horizon=horizon)
        np.testing.assert_array_equal(shorter.actions, longer.actions[:, :horizon])

    def test_the_environment_has_the_randomness_that_it_has_without(self):
        environment = make("CartPole-v1")
        policy = policy_for(environment)
        plain = EpisodeUnroll(environment, policy, params_for(policy), jax.random.key(3), 5, T, {})
        persistent = dataclasses.replace(plain, persistences=PERSISTENCES)
        jax.tree.map(np.testing.assert_array_equal, plain._start(), persistent._start())
        ours, theirs = (jax.jit(unroll._draw)(jnp.arange(T)) for unroll in (persistent, plain))
        np.testing.assert_array_equal(*(jax.random.key_data(r.environment_key) for r in (ours, theirs)))
        assert ours.noise.shape == theirs.noise.shape and ours.noise.dtype == theirs.noise.dtype

    def test_noise_is_not_that_of_another_use_of_the_key(self):
        """The noise of one episode is in no other: neither of its steps, nor without persistence."""
        environment = still(Box(1))
        policy = policy_for(environment)
        plain = EpisodeUnroll(environment, policy, params_for(policy), jax.random.key(3), 5, T, {})
        persistent = dataclasses.replace(plain, persistences=jnp.ones(5, jnp.int32))
        noise = [np.asarray(unroll._draw(jnp.arange(T)).noise).ravel() for unroll in (plain, persistent)]
        assert np.unique(np.concatenate(noise)).size == 2 * 5 * T


class TestOff:
    def test_a_batch_without_persistent_noise_has_no_persistences(self):
        assert play_cartpole().persistences is None


class TestDrawPersistences:
    SHARES = jnp.array([0.5, 0.3, 0.15, 0.05])
    CHOICES = (1, 4, 8, 32)

    def counts(self, episodes, draws=4000):
        def draw(key):
            drawn = draw_persistences(key, self.CHOICES, self.SHARES, episodes)
            return jnp.sum(drawn[:, None] == jnp.array(self.CHOICES), axis=0)

        return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), draws)))

    @pytest.mark.parametrize("episodes", [2, 16])
    def test_numbers_of_episodes_are_those_of_the_shares_on_average_and_to_one_in_each_draw(self, episodes):
        counts, expected = self.counts(episodes), episodes * np.asarray(self.SHARES)
        np.testing.assert_allclose(counts.mean(0), expected, atol=5 * 0.5 / np.sqrt(len(counts)))
        assert (np.abs(counts - expected) < 1 + 1e-4).all() and (counts.sum(1) == episodes).all()

    def test_a_share_of_0_is_never_played(self):
        shares = jnp.array([1.0, 0.0, 0.0, 0.0])
        drawn = jax.vmap(lambda key: draw_persistences(key, self.CHOICES, shares, 16))(
            jax.random.split(jax.random.key(0), 500)
        )
        assert (drawn == 1).all()

    def test_another_key_gives_another_draw(self):
        assert len(np.unique(self.counts(16), axis=0)) > 2

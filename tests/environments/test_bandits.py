"""Bandits: the arms of an instance, rewards around their means, regret, one pull an episode."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.play import always, assert_binomial, play, refusal, uniform
from scipy import integrate, stats

from haepo_jax.environments import Discrete, bernoulli_arm_means, gaussian_arm_means, make

KINDS = ["GaussianBandit-haepo", "BernoulliBandit-haepo"]
MEANS = dict(zip(KINDS, (gaussian_arm_means, bernoulli_arm_means), strict=True))
CHANCE_BELOW = dict(zip(KINDS, (stats.norm.cdf, stats.uniform.cdf), strict=True))


@pytest.mark.parametrize("name", KINDS)
class TestArms:
    def test_arms_are_those_of_the_instance_whatever_the_key(self, name):
        environment = make(name)
        for instance in (0, 7):
            for seed in (0, 1):
                state, _ = environment.reset({"instance": instance}, jax.random.key(seed))
                np.testing.assert_array_equal(state.means, MEANS[name](instance, 10))
        assert not np.array_equal(MEANS[name](0, 10), MEANS[name](7, 10))

    def test_arms_without_an_instance_are_those_of_instance_0(self, name):
        state, _ = make(name).reset({}, jax.random.key(3))
        np.testing.assert_array_equal(state.means, MEANS[name](0))

    def test_arms_do_not_depend_on_the_generator_of_the_process(self, name):
        expected = MEANS[name](5)
        with jax.default_prng_impl("rbg"):
            np.testing.assert_array_equal(MEANS[name](5), expected)

    def test_arms_are_float32_and_as_many_as_asked_for(self, name):
        assert MEANS[name](0, 3).shape == (3,) and MEANS[name](0, 3).dtype == jnp.float32
        assert make(name).action_space == Discrete(10)
        assert make(name, (("num_arms", 3),)).action_space == Discrete(3)

    def test_arms_follow_their_distribution_over_instances(self, name):
        means = np.asarray(jax.vmap(lambda instance: MEANS[name](instance, 10))(jnp.arange(5000)))
        for bound in (-1.0, 0.25, 0.5, 0.9):
            assert_binomial(int((means < bound).sum()), means.size, CHANCE_BELOW[name](bound))
        # Neither arms nor neighbouring instances have anything to do with one another.
        for a, b in ((means[:, 0], means[:, 1]), (means[1:, 0], means[:-1, 0])):
            assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))

    def test_arms_of_different_instances_are_all_different(self, name):
        firsts = jax.vmap(lambda instance: MEANS[name](instance, 10))(jnp.arange(1000))
        assert len(np.unique(np.asarray(firsts), axis=0)) == 1000


def test_the_two_kinds_of_one_instance_are_not_the_same_draw():
    ranks = [np.argsort(MEANS[name](0, 10)).tolist() for name in KINDS]
    assert ranks[0] != ranks[1]


class TestRewards:
    def test_rewards_of_a_gaussian_arm_without_noise_are_its_mean(self):
        environment, params = make("GaussianBandit-haepo"), {"instance": 2, "noise": 0.0}
        state, _ = environment.reset(params, jax.random.key(0))
        pull = jax.vmap(lambda arm: environment.step(params, jax.random.key(1), state, arm).reward)
        np.testing.assert_allclose(pull(jnp.arange(10)), gaussian_arm_means(2, 10), rtol=1e-6)

    @pytest.mark.parametrize("noise", [1.0, 0.1])
    def test_rewards_of_a_gaussian_arm_spread_around_its_mean(self, noise):
        environment = make("GaussianBandit-haepo")
        after, _ = play(environment, always(4), params={"instance": 1, "noise": noise}, episodes=20_000)
        away = (np.asarray(after.reward[:, 0]) - float(gaussian_arm_means(1, 10)[4])) / noise
        for bound in (-2.0, -0.5, 0.0, 1.0):
            assert_binomial(int((away < bound).sum()), away.size, stats.norm.cdf(bound))

    @pytest.mark.parametrize("arm", [0, 3, 9])
    def test_rewards_of_a_bernoulli_arm_are_1_as_often_as_its_mean_says(self, arm):
        after, _ = play(make("BernoulliBandit-haepo"), always(arm), params={"instance": 6}, episodes=20_000)
        rewards = np.asarray(after.reward[:, 0])
        assert set(np.unique(rewards)) <= {0.0, 1.0}
        assert_binomial(int(rewards.sum()), rewards.size, float(bernoulli_arm_means(6, 10)[arm]))


@pytest.mark.parametrize("name", KINDS)
class TestMeasures:
    def test_regret_of_each_arm_is_its_distance_from_the_best_one(self, name):
        environment = make(name)
        assert environment.info_metrics == ("regret", "optimal")
        means = np.asarray(MEANS[name](3, 10))
        state, _ = environment.reset({"instance": 3}, jax.random.key(0))
        pull = jax.jit(environment.step)
        info_metrics = [
            pull({"instance": 3}, jax.random.key(arm), state, jnp.int32(arm)).info_metrics for arm in range(10)
        ]
        np.testing.assert_array_equal([m["regret"] for m in info_metrics], max(means) - means)
        np.testing.assert_array_equal([m["optimal"] for m in info_metrics], means == max(means))

    def test_regret_is_free_of_the_noise_of_the_reward(self, name):
        after, _ = play(make(name), always(2), episodes=100)
        assert len(np.unique(after.info_metrics["regret"])) == 1
        assert len(np.unique(after.reward)) > 1

    def test_regret_of_the_uniform_policy_is_the_documented_one(self, name):
        # The best of ten draws from N(0, 1) less their mean 0; of ten from U(0, 1), 10/11, less 1/2.
        if name == "GaussianBandit-haepo":
            best, _ = integrate.quad(lambda x: x * 10 * stats.norm.pdf(x) * stats.norm.cdf(x) ** 9, -10, 10)
            expected = best
            assert round(expected, 2) == 1.54
        else:
            expected = 10 / 11 - 1 / 2
            assert round(expected, 2) == 0.41
        environment = make(name)

        def pull(instance, key):
            act_key, env_key = jax.random.split(key)
            state, observation = environment.reset({"instance": instance}, env_key)
            action = uniform(environment)(observation, act_key)
            return environment.step({"instance": instance}, env_key, state, action).info_metrics

        info_metrics = jax.vmap(pull)(jnp.arange(20_000), jax.random.split(jax.random.key(0), 20_000))
        regrets = np.asarray(info_metrics["regret"])
        assert (regrets >= 0).all()
        assert abs(regrets.mean() - expected) < 5 * regrets.std() / np.sqrt(regrets.size)
        assert_binomial(int(info_metrics["optimal"].sum()), 20_000, 1 / 10)


@pytest.mark.parametrize("name", KINDS)
class TestEpisode:
    def test_an_episode_is_one_pull_that_terminates(self, name):
        environment = make(name)
        assert environment.max_steps == 1 and environment.observation_shape == (1,)
        state, observation = environment.reset({}, jax.random.key(0))
        after = environment.step({}, jax.random.key(0), state, jnp.int32(1))
        assert observation.tolist() == after.observation.tolist() == [1.0]
        assert after.done and after.terminated
        assert after.state.time == 1

    def test_many_instances_compile_once_and_each_member_has_its_own(self, name):
        environment = make(name)
        traced = []

        @jax.jit
        def regret(instances):
            traced.append(instances)

            def one(instance):
                state, _ = environment.reset({"instance": instance}, jax.random.key(0))
                return environment.step({"instance": instance}, jax.random.key(0), state, jnp.int32(0)).info_metrics

            return jax.vmap(one)(instances)["regret"]

        for first in (0, 40):
            instances = np.arange(first, first + 4)
            means = np.stack([MEANS[name](instance, 10) for instance in instances])
            np.testing.assert_allclose(regret(instances), means.max(axis=1) - means[:, 0], rtol=1e-6)
        assert len(traced) == 1

    def test_bandits_are_played_by_gymnax(self, name):
        env, params = gymnax.make(name, num_arms=4)
        assert env.name == name and env.num_actions == 4
        observation, state = env.reset(jax.random.key(0), params)
        observation, state, reward, terminated, truncated, info = env.step(jax.random.key(1), state, 2, params)
        assert env.observation_space(params).contains(observation) and env.action_space(params).contains(2)
        assert env.state_space(params).spaces.keys() == {"means", "time"}
        assert reward.dtype == jnp.float32 and reward.shape == ()
        assert terminated and truncated and state.time == 0
        assert info["final_observation"].tolist() == observation.tolist() == [1.0]
        assert {"regret", "optimal", "discount"} < info.keys() and info["discount"] == 0

    def test_a_bandit_needs_two_arms(self, name):
        assert refusal(make, name, (("num_arms", 1),)) == (
            f"config.env_kwargs (num_arms=1) cannot be used by {name}: a bandit has at least 2 arms, got 1."
        )

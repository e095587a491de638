import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.studies.paper.bandit_algorithms import RULES, Counts, measure_regrets
from haepo_jax.environments import bernoulli_arm_means, gaussian_arm_means

GAUSSIAN, BERNOULLI = "GaussianBandit-haepo", "BernoulliBandit-haepo"
MEANS = {GAUSSIAN: gaussian_arm_means, BERNOULLI: bernoulli_arm_means}
PAIRS = [(env, rule) for env in RULES for rule in RULES[env]]
ARMS, PULLS, INSTANCES, SEEDS = 5, 500, (0, 3, 7), 6


@pytest.fixture(scope="module")
def played():
    return {pair: play(*pair) for pair in PAIRS}


def play(env, rule):
    return measure_regrets(env, rule, num_arms=ARMS, pulls=PULLS, instances=INSTANCES, seeds=SEEDS)


def gaps(env):
    """`[instances, arms]`."""
    means = np.array([MEANS[env](instance, ARMS) for instance in INSTANCES])
    return means.max(axis=1, keepdims=True) - means


@pytest.mark.parametrize(("env", "rule"), PAIRS)
def test_regret_is_that_of_an_arm_and_never_negative(played, env, rule):
    regret = played[env, rule]
    assert regret.shape == (len(INSTANCES), SEEDS, PULLS)
    assert (regret >= 0).all()
    nearest = np.abs(regret[..., None] - gaps(env)[:, None, None]).min(axis=-1)
    assert nearest.max() < 1e-6


@pytest.mark.parametrize(("env", "rule"), PAIRS)
def test_regret_falls_and_ends_far_below_the_uniform_policy(played, env, rule):
    regret, uniform = played[env, rule].mean(axis=1), gaps(env).mean(axis=1)
    first, middle, last = regret[:, :20].mean(axis=1), regret[:, 100:300].mean(axis=1), regret[:, -100:].mean(axis=1)
    assert (middle < first).all()
    assert last.mean() < middle.mean()
    assert last.mean() < (0.4 if rule == "UCB1" else 0.15) * uniform.mean()


def test_a_bandit_algorithm_plays_the_same_each_time(played):
    env, rule = GAUSSIAN, "UCB1"
    np.testing.assert_array_equal(play(env, rule), played[env, rule])


@pytest.mark.parametrize(("env", "rule"), PAIRS)
def test_seeds_and_bandits_are_played_apart(played, env, rule):
    assert len(np.unique(played[env, rule].reshape(-1, PULLS), axis=0)) == len(INSTANCES) * SEEDS


@pytest.mark.parametrize("env", RULES)
def test_ucb1_pulls_every_arm_once_before_any_twice(played, env):
    first = np.sort(played[env, "UCB1"][..., :ARMS], axis=-1)
    np.testing.assert_allclose(first, np.broadcast_to(np.sort(gaps(env))[:, None], first.shape), atol=1e-6)


def ucb1_by_hand(rewards, means):
    """Auer et al.'s algorithm on a table `[pulls, arms]` of what each pull would give; the regrets it pays."""
    history = [[] for _ in means]
    paid = []
    for row in rewards:
        untried = [arm for arm, own in enumerate(history) if not own]
        time = sum(map(len, history))
        bounds = [np.inf if not own else np.mean(own) + np.sqrt(2 * np.log(time) / len(own)) for own in history]
        arm = untried[0] if untried else int(np.argmax(bounds))
        history[arm].append(row[arm])
        paid.append(max(means) - means[arm])
    return paid


def reward_table(env, means, instance, seed_key):
    """What each pull of each arm gives: the chance of a pull is the same for every arm."""
    key = jax.random.fold_in(seed_key, instance)
    keys = jax.vmap(lambda time: jax.random.split(jax.random.fold_in(key, time))[1])(jnp.arange(PULLS))
    if env == GAUSSIAN:
        return np.asarray(jax.vmap(jax.random.normal)(keys), np.float64)[:, None] + means
    return np.array([jax.vmap(jax.random.bernoulli, (0, None))(keys, mean) for mean in means], np.float64).T


@pytest.mark.parametrize("env", RULES)
def test_ucb1_agrees_with_the_algorithm_on_the_same_rewards(played, env):
    keys = jax.random.split(jax.random.key(0), SEEDS)
    for row, instance in enumerate(INSTANCES[:2]):
        means = np.asarray(MEANS[env](instance, ARMS), np.float64)
        for seed in range(2):
            expected = ucb1_by_hand(reward_table(env, means, instance, keys[seed]), means)
            np.testing.assert_allclose(played[env, "UCB1"][row, seed], expected, atol=1e-6)


@functools.cache
def many_draws(env):
    return jax.jit(jax.vmap(RULES[env]["Thompson sampling"], (0, None, None)))


def chance_of_first(env, pulls, rewards):
    """How often Thompson sampling pulls the first of two arms, of 40 000 draws."""
    counts = Counts(jnp.array(pulls, jnp.float32), jnp.array(rewards, jnp.float32))
    arms = many_draws(env)(jax.random.split(jax.random.key(3), 40_000), counts, jnp.int32(9))
    return float((np.asarray(arms) == 0).mean())


@pytest.mark.parametrize(
    ("pulls", "rewards"), [((3, 0), (2.0, 0.0)), ((8, 1), (-4.0, 1.0)), ((0, 0), (0.0, 0.0)), ((99, 24), (30.0, 10.0))]
)
def test_thompson_draws_from_the_gaussian_posterior(pulls, rewards):
    """Prior N(0, 1) and n rewards of unit noise that sum to s: N(s / (n + 1), 1 / (n + 1))."""
    mean = [s / (n + 1) for n, s in zip(pulls, rewards, strict=True)]
    spread = np.sqrt(sum(1 / (n + 1) for n in pulls))
    expected = scipy.stats.norm.cdf((mean[0] - mean[1]) / spread)
    assert chance_of_first(GAUSSIAN, pulls, rewards) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("pulls", "rewards"), [((2, 1), (2, 0)), ((10, 4), (3, 2)), ((0, 0), (0, 0)), ((0, 3), (0, 3))]
)
def test_thompson_draws_from_the_beta_posterior(pulls, rewards):
    """A uniform prior and s successes of n: Beta(1 + s, 1 + n - s)."""
    first, second = (scipy.stats.beta(1 + s, 1 + n - s) for n, s in zip(pulls, rewards, strict=True))
    points = (np.arange(20_000) + 0.5) / 20_000
    expected = np.mean(first.pdf(points) * second.cdf(points))
    assert chance_of_first(BERNOULLI, pulls, rewards) == pytest.approx(expected, abs=0.01)

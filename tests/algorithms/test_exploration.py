"""Exploration: how the shares of persistences follow the returns, and that they do so in every kind of batch."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_close
from helpers.updates import arrays_of, assert_identical
from scipy import optimize

from haepo_jax.algorithms.exploration import count_exploration, make_shares, update_shares
from haepo_jax.config import ExplorationConfig, traced_settings
from haepo_jax.population.member import make_member
from haepo_jax.rollouts.episode_stats import episode_stats_of

CHOICES = (1, 4, 16)
SETTINGS = ExplorationConfig(CHOICES, max_share=0.8, rate=0.25, floor=0.05, target_effective_sample_size=0.4)
SHARES = jnp.array([0.4, 0.4, 0.2])
PLAYED = jnp.array([1, 1, 1, 4, 4, 4, 16, 16], jnp.int32)
RETURNS = jnp.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5])


def weights_by_hand(returns, share):
    """A softmax of the returns, as sharp as brings its effective sample size to this share of them; float64."""
    returns = np.asarray(returns, np.float64)

    def softmax(log_temperature):
        raised = np.exp((returns - returns.max()) / np.exp(log_temperature))
        return raised / raised.sum()

    found = optimize.brentq(lambda x: 1 / np.sum(softmax(x) ** 2) - share * len(returns), -6, 8)
    return softmax(found)


def mass_by_hand(returns, played, share=0.4):
    weights = weights_by_hand(returns, share)
    return np.array([weights[np.asarray(played) == choice].sum() for choice in CHOICES])


class TestMakeShares:
    def test_persistence_1_has_what_the_others_share_evenly_leave(self):
        np.testing.assert_allclose(make_shares(SETTINGS), [0.2, 0.4, 0.4], rtol=1e-6)
        assert count_exploration(make_shares(SETTINGS)) == pytest.approx(0.8)

    def test_each_has_the_floor_from_the_beginning(self):
        begun = dataclasses.replace(SETTINGS, max_share=0.0)
        np.testing.assert_allclose(make_shares(begun), [0.9, 0.05, 0.05], rtol=1e-6)


class TestUpdateShares:
    """RETURNS has its best episode among those that explore, so that the shares follow the weights."""

    def test_where_exploring_is_better_shares_move_at_the_rate_to_the_weights_of_their_episodes(self):
        expected = 0.75 * np.asarray(SHARES) + 0.25 * mass_by_hand(RETURNS, PLAYED)
        assert expected.min() > 0.05 and expected[1:].sum() < 0.8  # neither the floor nor the most matters
        np.testing.assert_allclose(update_shares(SETTINGS, SHARES, PLAYED, RETURNS), expected, rtol=1e-4)

    def test_where_the_best_plain_episode_is_as_good_exploration_goes_down_at_the_rate(self):
        returns = RETURNS.at[0].set(9.0)
        np.testing.assert_allclose(update_shares(SETTINGS, SHARES, PLAYED, returns), [0.55, 0.3, 0.15], rtol=1e-5)

    def test_where_all_returns_are_equal_the_shares_move_back_to_the_first_ones(self):
        shares = update_shares(SETTINGS, SHARES, PLAYED, jnp.full(8, -200.0))
        np.testing.assert_allclose(shares, 0.75 * np.asarray(SHARES) + 0.25 * np.array([0.2, 0.4, 0.4]), rtol=1e-5)

    def test_no_more_than_the_first_share_explores(self):
        settings = dataclasses.replace(SETTINGS, rate=1.0, floor=0.0, max_share=0.3)
        shares = np.asarray(update_shares(settings, SHARES, PLAYED, RETURNS))
        mass = mass_by_hand(RETURNS, PLAYED)[1:]
        assert mass.sum() > 0.3
        np.testing.assert_allclose(shares, [0.7, *(0.3 * mass / mass.sum())], rtol=1e-4)

    @pytest.mark.parametrize("floor", [0.0, 0.05, 1 / 3])
    def test_each_keeps_the_floor_and_the_sum_is_1(self, floor):
        settings = dataclasses.replace(SETTINGS, rate=1.0, floor=floor, target_effective_sample_size=0.3)
        shares = np.asarray(update_shares(settings, SHARES, PLAYED, 1000.0 * (PLAYED == 1)))
        np.testing.assert_allclose(shares, [1 - 2 * floor, floor, floor], atol=1e-6)

    def test_returns_in_another_unit_and_from_another_zero_move_them_alike(self):
        moved, other = (update_shares(SETTINGS, SHARES, PLAYED, returns) for returns in (RETURNS, 7 * RETURNS - 900))
        np.testing.assert_allclose(moved, other, rtol=1e-4)

    @pytest.mark.parametrize("value", [0.0, -1e9, 1e9])
    def test_episodes_that_were_not_played_do_not_count(self, value):
        rounds = jnp.stack([PLAYED, jnp.zeros_like(PLAYED)]), jnp.stack([RETURNS, jnp.full(8, value)])
        np.testing.assert_allclose(
            update_shares(SETTINGS, SHARES, *rounds), update_shares(SETTINGS, SHARES, PLAYED, RETURNS), rtol=1e-6
        )

    def test_earlier_episodes_that_compete_again_count_as_the_newest_do(self):
        newest, earlier = (PLAYED[:5], RETURNS[:5]), (PLAYED[5:], RETURNS[5:])
        np.testing.assert_allclose(
            update_shares(SETTINGS, SHARES, *newest, earlier), update_shares(SETTINGS, SHARES, PLAYED, RETURNS)
        )

    @pytest.mark.parametrize("value", [np.inf, np.nan])
    def test_a_return_that_no_weight_belongs_to_leaves_the_shares(self, value):
        np.testing.assert_array_equal(update_shares(SETTINGS, SHARES, PLAYED, RETURNS.at[2].set(value)), SHARES)


def config_of(memory="remat", persistences=CHOICES, **changes):
    basic = {
        "num_trajectories": 6,
        "horizon": 30,
        "num_updates": 5,
        "memory": memory,
        "discount": 0.97,
        "policy": {"hidden_sizes": (8,)},
        "haepo": {"num_epochs": 2, "entropy_coef": 1.0},
        "exploration": {"persistences": persistences},
    }
    return fixed_config(basic | changes)


@functools.cache
def trained(memory="remat", least=None, updates=2):
    """The update of a member; its state after some of them, that before the last, the batches, the last metrics."""
    config = config_of(memory, min_batch_steps=least)
    functions = make_member(config)
    state = functions.init(jax.random.key(3), arrays_of(traced_settings(config)))

    @jax.jit
    def update(state):
        batch = functions.collect(state)
        return batch, functions.learn(state, batch)

    batches = []
    for _ in range(updates):
        before, (batch, (state, metrics)) = state, update(state)
        batches.append(batch)
    return update, state, before, batches, metrics


class TestTraining:
    def test_an_update_moves_the_shares_by_its_returns(self):
        _, after, before, (_, batch), metrics = trained()
        assert set(np.asarray(batch.persistences)) <= set(CHOICES)
        returns = episode_stats_of(batch, 0.97).discounted_returns
        expected = update_shares(config_of().exploration, before.learner.exploration, batch.persistences, returns)
        np.testing.assert_allclose(after.learner.exploration, expected, rtol=1e-4)
        assert np.abs(after.learner.exploration - before.learner.exploration).max() > 0.01
        assert metrics["exploration_share"] == 1 - before.learner.exploration[0]

    def test_the_return_is_that_of_all_episodes_and_the_plain_one_of_those_of_persistence_1(self):
        (_, batch), metrics = trained()[3:]
        returns, plain = episode_stats_of(batch).returns, np.asarray(batch.persistences) == 1
        assert 0 < plain.sum() < len(plain)
        assert metrics["episode_return"] == pytest.approx(float(returns.mean()))
        assert metrics["plain_return"] == pytest.approx(float(returns[plain].mean()))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("memory", "least"), [("recompute", None), ("store", None), ("remat", 300), ("recompute", 300)]
    )
    def test_every_kind_of_batch_moves_parameters_and_shares_alike(self, memory, least):
        _, after, _, (first, batch), metrics = trained(memory, least)
        _, expected, _, _, expected_metrics = trained("remat", least)
        assert_close(after.learner.params, expected.learner.params, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(after.learner.exploration, expected.learner.exploration, rtol=1e-4)
        for name in ("episode_return", "plain_return", "exploration_share"):
            assert metrics[name] == pytest.approx(float(expected_metrics[name]), rel=1e-5)
        if least is not None:
            played = np.asarray(batch.persistences)[: int(metrics["num_episodes"]) // 6]
            assert (played > 0).all() and not np.asarray(batch.persistences)[len(played) :].any()
            # Each round draws anew: at first one and a half of six episodes for each persistence above 1.
            rounds = [tuple(row) for row in np.asarray(first.persistences) if row.any()]
            assert len(played) > 1 and len(set(rounds)) > 1

    def test_a_member_that_diverges_keeps_its_shares(self):
        update, _, before, _, _ = trained()
        endless = before.settings | {"optimizer.learning_rate": jnp.float32(jnp.inf)}
        _, (after, _) = update(dataclasses.replace(before, settings=endless))
        assert after.diverged
        np.testing.assert_array_equal(after.learner.exploration, before.learner.exploration)


def program_of(config):
    """The operations of an update as text."""
    functions = make_member(config)

    def update(key, settings):
        state = functions.init(key, settings)
        return functions.learn(state, functions.collect(state))

    return str(jax.make_jaxpr(update)(jax.random.key(0), arrays_of(traced_settings(config))))


class TestOff:
    def test_persistence_1_alone_is_the_program_without_exploration(self):
        without, with_one, with_two = (program_of(config_of(persistences=given)) for given in ((), (1,), (1, 2)))
        assert without == with_one != with_two

    def test_there_are_no_shares_and_no_columns(self):
        functions = make_member(config_of(persistences=()))
        settings = arrays_of(traced_settings(config_of()))

        def update(key):
            state = functions.init(key, settings)
            return functions.learn(state, functions.collect(state))

        state, metrics = jax.eval_shape(update, jax.random.key(0))
        assert state.learner.exploration is None
        assert not {"exploration_share", "plain_return"} & set(metrics)

    @pytest.mark.slow
    def test_evaluation_does_not_explore(self):
        returns = []
        for persistences in ((), CHOICES):
            config = config_of(persistences=persistences, evaluate_every=1)
            functions = make_member(config)
            state = functions.init(jax.random.key(0), arrays_of(traced_settings(config)))
            returns.append(jax.jit(functions.evaluate)(state))
        assert_identical(*returns)


def returns_of_training(persistences, updates=15, seeds=8):
    """The share of episodes `[seeds, updates]` that reach a goal that jitter does not: 60 steps away, in 120 steps."""
    config = config_of(
        persistences=persistences,
        env="RandomWalk-haepo",
        env_params={"length": 60},
        horizon=120,
        num_trajectories=16,
        num_updates=updates,
        discount=1.0,
        haepo={"num_epochs": 4, "entropy_coef": 1.0, "kl_coef": 0.0},
    )
    functions = make_member(config)
    settings = arrays_of(traced_settings(config))

    @jax.jit
    @jax.vmap
    def train(key):
        def update(state, _):
            state, metrics = functions.learn(state, functions.collect(state))
            return state, metrics["episode_return"]

        return jax.lax.scan(update, functions.init(key, settings), length=updates)

    return np.asarray(train(jax.random.split(jax.random.key(5), seeds))[1])


@pytest.mark.slow
def test_a_goal_that_needs_a_sweep_is_reached_ever_more_often_with_persistent_noise_and_never_without():
    assert (returns_of_training(()) == 0).all()  # an untrained policy gets there once in 27 million episodes
    returns = returns_of_training((1, 4, 16))
    assert (returns[:, -1] > 0.3).all() and returns[:, -1].mean() > 2 * returns[:, 0].mean()

"""Greedy evaluation while members train: whom it scores and when, what it keeps, and what it leaves alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose

from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.population.held_out import better_of, no_best
from haepo_jax.rollouts.episodes import collect

ONE = jax.devices()[:1]
EVERY, EPISODES = 2, 5


def config(**changes):
    small = {
        "env": "CartPole-v1",
        "num_seeds": 3,
        "num_updates": 8,
        "num_trajectories": 4,
        "horizon": 60,
        "optimizer": {"learning_rate": 0.05},
        "policy": {"hidden_sizes": (8,)},
        "haepo": {"num_epochs": 1},
        "evaluate_every": EVERY,
        "evaluate_episodes": EPISODES,
    }
    return fixed_config(small | changes)


def laid_out(one_by_one, config):
    """A population on one device whose members learn one after the other, or all together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haepo_jax.population.layout.goes_in_tiles", lambda device, steps: one_by_one)
        population = make_population(config, devices=ONE)
        population.advance(population.init(), jnp.int32(0))
    return population


@pytest.fixture(scope="module", params=["one by one", pytest.param("together", marks=pytest.mark.slow)])
def population(request):
    return laid_out(request.param == "one by one", config())


def step_by_step(population, updates=8):
    """The states after each update, and the metrics of each, without padding."""
    state, states, rows = population.init(), [], []
    for _ in range(updates):
        state, metrics = population.advance(state, jnp.int32(1))
        states.append(population.to_host(state))
        rows.append({name: population.here(values, axis=1)[0] for name, values in metrics.items()})
    return states, {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def row(tree, member):
    return jax.tree.map(lambda leaf: leaf[member], tree)


def assert_identical(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def played_by_hand(population, states):
    """The mean greedy returns `[updates, members]` of held-out episodes, from whole trajectories."""
    functions, seeds = population.functions, [member.seed for member in population.members]

    def returns(params, seed):
        steps = collect(
            *(functions.environment, functions.algorithm.policy, params, jax.random.fold_in(jax.random.key(seed), 4)),
            num_trajectories=EPISODES,
            horizon=functions.horizon,
            greedy=True,
        )
        return jnp.where(steps.mask, steps.rewards, 0).sum(axis=1).mean()

    over_members = jax.jit(jax.vmap(returns))
    return np.stack([over_members(state.learner.params, np.array(seeds)) for state in states])


def test_each_evaluation_is_that_of_the_policy_after_its_update_and_the_best_one_is_kept(population):
    states, metrics = step_by_step(population)
    scores, ran = metrics["eval_return"], metrics["env_steps"] > 0
    due = np.arange(1, 9)[:, None] % EVERY == 0
    expected = np.where(due & ran, played_by_hand(population, states), np.nan)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    best = states[-1].best
    for member in range(3):
        update = int(np.nanargmax(scores[:, member]))  # the first of those that tie
        assert best.update[member] == update + 1 and best.eval_return[member] == scores[update, member]
        assert_identical(row(best.params, member), row(states[update].learner.params, member))
    assert len(np.unique(scores[~np.isnan(scores)])) > 3  # so that equal scores mean something


def test_chunks_of_updates_change_neither_evaluations_nor_the_best(population):
    states, metrics = step_by_step(population)
    state, rows = population.advance(population.init(), jnp.int32(8))
    assert_identical(population.to_host(state), states[-1])
    np.testing.assert_array_equal(population.here(rows["eval_return"], axis=1)[:8], metrics["eval_return"])


def test_a_member_that_diverges_keeps_its_best(population):
    state, _ = population.advance(population.init(), jnp.int32(EVERY))
    before = population.to_host(state).best
    rates = state.settings["optimizer.learning_rate"].at[1].set(jnp.inf)
    state = dataclasses.replace(state, settings=state.settings | {"optimizer.learning_rate": rates})
    state, metrics = population.advance(state, jnp.int32(EVERY))
    after = population.to_host(state)
    assert after.diverged.tolist() == [False, True, False]
    assert np.isnan(population.here(metrics["eval_return"], axis=1)[:EVERY, 1]).all()
    assert before.update[1] == EVERY
    assert_identical(row(after.best, 1), row(before, 1))


@pytest.mark.slow
def test_training_has_the_numbers_that_it_has_without_evaluation():
    plain, evaluated = (laid_out(False, config(evaluate_every=every)) for every in (None, EVERY))
    state, metrics = plain.advance(plain.init(), jnp.int32(3))
    assert state.best is None and "eval_return" not in metrics
    other, others = evaluated.advance(evaluated.init(), jnp.int32(3))
    # To the last digit but one, and before an action differs: two programs, which the compiler may order differently.
    for name, values in metrics.items():
        assert_allclose(values[:3], others[name][:3], rtol=1e-3, atol=1e-5)
    learners = jax.tree.leaves(plain.to_host(state).learner), jax.tree.leaves(evaluated.to_host(other).learner)
    for left, right in zip(*learners, strict=True):
        assert_allclose(left, right, rtol=1e-3, atol=1e-5)


def test_unset_the_program_is_the_one_without_evaluation():
    unset, other, evaluated = (
        make_population(config(**changes))
        for changes in ({"evaluate_every": None}, {"evaluate_every": None, "evaluate_episodes": 7}, {})
    )
    assert unset.fingerprint() == other.fingerprint() != evaluated.fingerprint()


def test_in_a_program_the_best_are_returned_beside_the_last(population):
    trained = population.run([{}, {"optimizer.learning_rate": 0.02}], seeds=[0])
    assert trained.best.update.shape == (2, 1) and set(trained.best.update.ravel()) <= {2, 4, 6, 8}
    np.testing.assert_array_equal(trained.best.eval_return, np.nanmax(trained["eval_return"], axis=2))
    assert jax.tree.map(np.shape, trained.best.params) == jax.tree.map(np.shape, trained.params)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, 3.0])
def test_what_ties_or_is_not_finite_does_not_replace_the_best(score):
    first = better_of(no_best({"w": jnp.ones(2)}), {"w": jnp.full(2, 5.0)}, jnp.float32(3.0), jnp.int32(2))
    assert_identical(first.params["w"], np.full(2, 5.0))
    assert_identical(better_of(first, {"w": jnp.full(2, 7.0)}, jnp.float32(score), jnp.int32(4)), first)


def test_more_updates_between_evaluations_than_there_are_is_one_sentence():
    with pytest.raises(ConfigError) as raised:
        config(evaluate_every=9)
    assert str(raised.value) == (
        "config.evaluate_every 9 is more than config.num_updates 8, so that nothing would be evaluated; it may be at "
        "most 8."
    )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "reinforce"])
def test_other_algorithms_are_evaluated_alike(algorithm):
    changes = {"algorithm": algorithm, "ppo": {"num_steps": 16, "num_minibatches": 2}, "num_updates": 4}
    population = make_population(config(**changes), devices=ONE)
    states, metrics = step_by_step(population, 4)
    np.testing.assert_allclose(metrics["eval_return"][1::2], played_by_hand(population, states)[1::2], rtol=1e-6)


@pytest.mark.slow
def test_members_whose_trajectories_are_spread_over_devices_are_evaluated_alike():
    spread = make_population(config(), devices=some_devices(2), trajectory_devices=2)
    states, metrics = step_by_step(spread, 4)
    np.testing.assert_allclose(metrics["eval_return"][1::2], played_by_hand(spread, states)[1::2], rtol=1e-6)


@pytest.mark.slow
def test_members_that_have_stopped_are_not_evaluated():
    """Bandits that stop after five updates of four pulls."""
    stopping = laid_out(True, config(env="GaussianBandit-haepo", max_env_steps=20))
    states, metrics = step_by_step(stopping)
    stopped = metrics["env_steps"] == 0
    assert stopped[5:].all() and not stopped[:5].any()
    assert np.isnan(metrics["eval_return"][5:]).all()
    np.testing.assert_allclose(metrics["eval_return"][1:5:2], played_by_hand(stopping, states)[1:5:2], rtol=1e-6)

"""Earlier batches that compete again: what a loss is made of then, update by update."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config
from helpers.tolerances import assert_allclose

from haepo_jax.algorithms.history import Episodes, no_history, remember
from haepo_jax.errors import ConfigError
from haepo_jax.losses import haepo_loss, trajectory_log_likelihood
from haepo_jax.networks import action_log_probs
from haepo_jax.population import make_population
from haepo_jax.population.member import make_member

HISTORY = 2
MOST_EPISODES = 18  # of three batches
CONFIG = {
    "env": "CartPole-v1",
    "horizon": 12,
    "num_trajectories": 3,
    "num_updates": 6,
    "num_seeds": 2,
    "policy": {"hidden_sizes": (8,)},
    "optimizer": {"learning_rate": 0.03},
    "haepo": {"history": HISTORY, "num_epochs": 1, "entropy_coef": 0.3, "kl_coef": 0.1, "reference": "previous"},
}


def config_of(**changes):
    return fixed_config(CONFIG | changes)


@functools.cache
def programs(history, **changes):
    """A member's functions, as programs that tests share."""
    functions = make_member(config_of(haepo=CONFIG["haepo"] | {"history": history}, **changes))
    compiled = {name: jax.jit(getattr(functions, name)) for name in ("init", "collect", "learn")}
    return functions._replace(**compiled)


def episodes_of(batch):
    """Each episode of packed rounds in a row of its own: `(observations, actions, log_probs, returns)` each."""
    steps, episodes = jax.device_get(batch.steps), []
    for lane in range(steps.mask.shape[0]):
        for number, start in enumerate(np.asarray(batch.starts)):
            rows = [t for t in range(start, steps.mask.shape[1]) if batch.round_of_step[t] == number]
            rows = [t for t in rows if steps.mask[lane, t]]
            if rows:
                at = (lane, slice(rows[0], rows[-1] + 1))
                reward = steps.rewards[at].sum()
                episodes.append((steps.observations[at], steps.actions[at], steps.log_probs[at].sum(), reward))
    return episodes


def rows_of(batches):
    """All episodes of these batches, a row each, filled up to one shape."""
    episodes = [episode for batch in batches for episode in episodes_of(batch)]
    assert len(episodes) <= MOST_EPISODES
    lengths = np.zeros(MOST_EPISODES, int)
    observations = np.zeros((MOST_EPISODES, CONFIG["horizon"], 4), np.float32)
    actions = np.zeros((MOST_EPISODES, CONFIG["horizon"]), np.int32)
    played, returns = np.zeros(MOST_EPISODES, np.float32), np.zeros(MOST_EPISODES, np.float32)
    for row, (seen, done, played[row], returns[row]) in enumerate(episodes):
        lengths[row] = len(done)
        observations[row, : len(done)], actions[row, : len(done)] = seen, done
    return observations, actions, lengths, played, returns


@functools.partial(jax.jit, static_argnums=0)
def loss_by_hand(policy, params, reference, rows):
    """HAEPO's loss of all these episodes in one group."""
    observations, actions, lengths, played, returns = rows
    done = jnp.arange(actions.shape[1]) < lengths[:, None]

    def scores(params):
        return jnp.where(done, action_log_probs(policy, params, observations, actions), 0).sum(-1) - played

    kept = lengths > 0
    return haepo_loss(scores(params), returns, scores(reference), entropy_coef=0.3, kl_coef=0.1, where=kept)[0]


@pytest.mark.parametrize(
    "more", [{}, pytest.param({"min_batch_steps": 40}, marks=pytest.mark.slow)], ids=["episodes", "steps"]
)
def test_the_loss_is_that_of_the_newest_batch_and_the_two_before_it_in_one_group(more):
    functions = programs(HISTORY, **more)
    state, batches = functions.init(jax.random.key(3), {}), []
    for _ in range(HISTORY + 3):  # the third batch after the first overwrites it
        batch = functions.collect(state)
        batches.append(batch)
        params, reference = state.learner.params, state.learner.reference
        state, metrics = functions.learn(state, batch)
        expected = loss_by_hand(functions.algorithm.policy, params, reference, rows_of(batches[-1 - HISTORY :]))
        assert_allclose(metrics["loss"], expected, rtol=2e-4, atol=2e-5)


def test_the_gradient_is_that_of_all_batches():
    functions = programs(HISTORY)
    state, batches = functions.init(jax.random.key(4), {}), []
    for _ in range(HISTORY + 1):
        batches.append(functions.collect(state))
        before, state = state, functions.learn(state, batches[-1])[0]
    learner = before.learner

    @jax.jit
    def gradient(learner, batch):
        loss = functions.algorithm.loss(config_of(), learner, batch)
        return jax.grad(lambda params: loss(params)[0])(learner.params)

    found = gradient(learner, batches[-1])
    expected = jax.grad(loss_by_hand, argnums=1)(
        functions.algorithm.policy, learner.params, learner.reference, rows_of(batches)
    )
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-3, atol=1e-5), found, expected)


def test_before_the_first_update_there_is_no_earlier_episode():
    """The first update is the one of a run without a history; the second is not."""

    def losses_of(history):
        functions = programs(history)
        state, losses = functions.init(jax.random.key(0), {}), []
        for _ in range(2):
            state, metrics = functions.learn(state, functions.collect(state))
            losses.append(metrics["loss"])
        return losses

    without, with_history = losses_of(0), losses_of(HISTORY)
    assert_allclose(with_history[0], without[0], rtol=1e-5)
    assert not np.allclose(with_history[1], without[1], rtol=1e-3)


def test_the_oldest_batch_is_overwritten():
    def batch(number):
        full = jnp.full(3, number)
        return full, Episodes(full.astype(jnp.float32), full, full.astype(jnp.float32), full > 0)

    history = no_history(HISTORY, *batch(0))
    for number in range(1, 6):
        history = remember(history, *batch(number))
    assert sorted(history.batches[:, 0].tolist()) == [4, 5]
    np.testing.assert_array_equal(history.episodes.returns, history.batches)


def test_a_history_is_refused_where_no_steps_are_kept():
    with pytest.raises(
        ConfigError, match=r"config.memory recompute keeps no steps, which config.haepo.history learns"
    ):
        config_of(memory="recompute")


def test_a_history_does_not_go_with_trajectories_that_are_spread_over_devices():
    sentence = r"--trajectory_devices=2 spreads the trajectories of one batch, and config.haepo.history keeps several"
    with pytest.raises(ConfigError, match=sentence):
        make_population(config_of(num_trajectories=4), trajectory_devices=2, devices=jax.devices() * 2)


@pytest.mark.slow
def test_a_history_is_part_of_what_a_member_needs_to_go_on():
    """Two updates after a way through a checkpoint's arrays are those without it."""
    population = make_population(config_of(), devices=jax.devices()[:1])
    state, _ = population.advance(population.init(), np.int32(3))
    arrays = jax.tree.map(np.array, population.to_host(state))
    _, expected = population.advance(state, np.int32(2))
    _, found = population.advance(population.from_host(arrays), np.int32(2))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), found, expected)


def test_likelihoods_of_what_is_kept_are_those_of_the_batch():
    functions = programs(HISTORY)
    state = functions.init(jax.random.key(0), {})
    batch = functions.collect(state)
    kept = batch.without_reports()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(kept)) < sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
    log_probs = action_log_probs(
        functions.algorithm.policy, state.learner.params, kept.steps.observations, kept.steps.actions
    )
    expected = trajectory_log_likelihood(batch.steps.log_probs, where=batch.steps.mask)
    assert_allclose(kept.sum_over_steps(log_probs)[0], expected, rtol=1e-4)

"""RLOO: what one update does to the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.updates import (
    BATCH,
    ENVIRONMENT,
    PARAMS,
    M,
    T,
    assert_all_differ,
    assert_close,
    assert_compiled_once,
    assert_one_schema,
    batch_from,
    by_hand,
    config_for,
    distance,
    learn,
    learner_for,
    log_probs,
    results_of_changes,
    returns_of,
)

from haepo_jax.algorithms import make_algorithm

DISCOUNT = 0.9


def config_with(**options):
    return config_for("rloo", discount=DISCOUNT, **options)


def advantages_of(batch):
    """Each return against the mean of the others, one at a time."""
    returns = returns_of(batch, DISCOUNT)
    return np.array([returns[k] - np.delete(returns, k).mean() for k in range(M)])


def test_updates_equal_the_composition_by_hand():
    config = config_with(optimizer={"max_grad_norm": 0.1})

    def loss_fn(params, batch, advantages):
        return -jnp.mean(advantages * log_probs(params, batch).sum(-1))

    learner, batches = learner_for(config, PARAMS), []
    for update in range(3):
        batches.append(batch_from(learner.params, update))
        learner, metrics = learn(config, learner, batches[-1], update)
        assert metrics["grad_norm"] > 0.1  # so that the clip acts
    inputs = [(batch, jnp.asarray(advantages_of(batch), jnp.float32)) for batch in batches]
    expected, history = by_hand(config, PARAMS, loss_fn, inputs)
    assert_close(learner.params, expected)
    assert_close(metrics, history[-1], rtol=1e-3)


def test_metrics_are_finite_scalars_of_one_schema():
    config = config_with()
    _, metrics = learn(config, learner_for(config, PARAMS), BATCH)
    assert_one_schema(metrics, {"loss", "grad_norm"})


def test_there_is_no_reference():
    config = config_with()
    learner = make_algorithm(config, ENVIRONMENT).init(config, jax.random.key(0))
    assert learner.reference is None
    assert learn(config, learner, BATCH)[0].reference is None


def test_the_better_trajectories_become_likelier():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH)
    change = np.asarray((log_probs(after.params, BATCH) - log_probs(PARAMS, BATCH)).sum(-1))
    assert np.dot(change, advantages_of(BATCH)) > 0.01


def test_equal_returns_move_nothing():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=jnp.zeros((M, T))))
    assert distance(after.params, PARAMS) == 0


def test_returns_keep_their_scale():
    config = config_with()
    larger = BATCH._replace(rewards=1e3 * BATCH.rewards)
    norms = [float(learn(config, learner_for(config, PARAMS), b)[1]["grad_norm"]) for b in (BATCH, larger)]
    assert norms[1] / norms[0] == pytest.approx(1e3, rel=1e-3)


def test_schedule_ends_with_the_last_update():
    config = config_with(num_updates=2, optimizer={"schedule": "linear"})
    learner, steps = learner_for(config, PARAMS), []
    for update in range(3):
        after, _ = learn(config, learner, batch_from(learner.params, update), update)
        steps.append(distance(learner.params, after.params))
        learner = after
    assert steps[0] > 1e-3 and steps[1] > 1e-3 and steps[2] < 1e-6 * steps[0]


def test_each_traced_setting_changes_the_update_in_one_program():
    changes = {"optimizer.learning_rate": 0.02, "optimizer.max_grad_norm": 1e-7, "discount": 0.5}
    assert_all_differ(results_of_changes(config_with(), changes))
    assert_compiled_once()

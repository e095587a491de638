"""RLOO: what one update does to the parameters."""

import jax.numpy as jnp
import numpy as np
from helpers.tolerances import approx, assert_close
from helpers.updates import (
    BATCH,
    PARAMS,
    M,
    T,
    batch_from,
    by_hand,
    config_for,
    distance,
    learn,
    learner_for,
    log_probs,
    returns_of,
)

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
    assert norms[1] / norms[0] == approx(1e3, rel=1e-3)

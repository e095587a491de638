"""REINFORCE: what one update does to the parameters."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tolerances import assert_close
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

from haepo_jax.config import NORMALIZATIONS
from haepo_jax.losses import normalize_returns, reinforce_loss

DISCOUNT = 0.9


def config_with(*, normalization="zscore", num_updates=5, **optimizer):
    return config_for(
        "reinforce", discount=DISCOUNT, num_updates=num_updates, optimizer=optimizer, normalization=normalization
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_updates_equal_the_composition_by_hand(normalization):
    config = config_with(normalization=normalization, max_grad_norm=0.1)

    def loss_fn(params, batch, advantages):
        return reinforce_loss(log_probs(params, batch).sum(-1), advantages)[0]

    learner, batches = learner_for(config, PARAMS), []
    for update in range(3):
        batches.append(batch_from(learner.params, update))
        learner, metrics = learn(config, learner, batches[-1], update)
        assert metrics["grad_norm"] > 0.1  # so that the clip acts
    advantages = [normalize_returns(returns_of(batch, DISCOUNT), method=normalization) for batch in batches]
    expected, history = by_hand(config, PARAMS, loss_fn, zip(batches, advantages, strict=True))
    assert_close(learner.params, expected)
    assert_close(metrics, history[-1])


def test_the_better_trajectories_become_likelier():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH)
    change = np.asarray(log_probs(after.params, BATCH).sum(-1) - log_probs(PARAMS, BATCH).sum(-1))
    returns = returns_of(BATCH, DISCOUNT)
    assert np.dot(change, returns - returns.mean()) > 0.01


def test_equal_returns_move_nothing():
    config = config_with()
    after, _ = learn(config, learner_for(config, PARAMS), BATCH._replace(rewards=jnp.zeros((M, T))))
    assert distance(after.params, PARAMS) == 0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_decoder import DECODER, RESPONSE, VOCAB, params_of, sequences

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.training.reward import (
    bradley_terry_loss,
    compute_held_out_accuracy,
    compute_rewards,
    init_reward_params,
    judge,
)
from haepo_jax.language.training.scoring import Sequences

pytestmark = pytest.mark.usefixtures("exact_products")

ROWS = sequences(8)
PARAMS = {"decoder": params_of(), "score": jnp.asarray(np.random.default_rng(0).normal(size=8), jnp.float32)}


@functools.partial(jax.jit, static_argnums=1)
def of_rows(rows, pooling, params=PARAMS):
    return compute_rewards(DECODER, params, rows, response_length=RESPONSE, pooling=pooling)


@pytest.mark.parametrize("pooling", ["sum", "mean", "last"])
def test_pool_the_scores_of_the_response(pooling):
    states, _ = DECODER.apply({"params": PARAMS["decoder"]}, ROWS.tokens, ROWS.valid, method="hidden")
    scores = np.asarray(states)[:, -RESPONSE:] @ np.asarray(PARAMS["score"])
    expected = []
    for row, valid in zip(scores, np.asarray(ROWS.valid)[:, -RESPONSE:], strict=True):
        own = row[valid]
        expected.append({"sum": own.sum(), "mean": own.mean(), "last": own[-1]}[pooling])
    np.testing.assert_allclose(of_rows(ROWS, pooling), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["sum", "mean", "last"])
def test_padding_is_never_read(pooling):
    noise = jax.random.randint(jax.random.key(1), ROWS.tokens.shape, 0, VOCAB)
    other = ROWS._replace(tokens=jnp.where(ROWS.valid, ROWS.tokens, noise))
    np.testing.assert_array_equal(of_rows(ROWS, pooling), of_rows(other, pooling))


@pytest.mark.parametrize("pooling", ["sum", "mean", "last"])
def test_an_empty_response_gets_nothing(pooling):
    empty = ROWS._replace(valid=ROWS.valid.at[0, -RESPONSE:].set(False))
    assert of_rows(empty, pooling)[0] == 0


def test_begins_with_every_reward_0():
    assert np.all(of_rows(ROWS, "sum", init_reward_params(None, PARAMS["decoder"])[1]) == 0)


def test_comparisons_without_a_token_do_not_count():
    pairs = Sequences(*(leaf.reshape(4, 2, -1) for leaf in ROWS))
    padded = Sequences(*(jnp.pad(leaf, [(0, 3), (0, 0), (0, 0)]) for leaf in pairs))
    of_padded, of_pairs = (
        jax.jit(functools.partial(function, LanguageConfig(), DECODER, response_length=RESPONSE))
        for function in (compute_held_out_accuracy, judge)
    )
    right = of_padded(PARAMS, padded)
    assert right == of_pairs(PARAMS, pairs)[1]
    assert 0 < right < 1


def test_bradley_terry_by_hand():
    loss, accuracy = bradley_terry_loss(jnp.log(jnp.array([3.0, 1.0])), jnp.log(jnp.array([1.0, 4.0])))
    np.testing.assert_allclose(loss, -(np.log(3 / 4) + np.log(1 / 5)) / 2, rtol=1e-6)
    assert accuracy == 0.5

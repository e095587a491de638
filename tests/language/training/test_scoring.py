import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_decoder import ARCHITECTURE, DECODER, RESPONSE, VOCAB, params_of, sequences

from haepo_jax.language.training.scoring import response_log_probs, token_log_probs

pytestmark = pytest.mark.usefixtures("exact_products")

PARAMS = params_of()


@functools.partial(jax.jit, static_argnames=("temperature", "dtype", "softcap"))
def of_rows(rows, temperature=1.0, dtype=jnp.float32, softcap=None):
    decoder = DECODER.clone(dtype=dtype, architecture=dataclasses.replace(ARCHITECTURE, final_softcap=softcap))
    return response_log_probs(decoder, PARAMS, rows, response_length=RESPONSE, temperature=temperature)


@pytest.mark.parametrize(("temperature", "softcap"), [(1.0, None), (0.5, None), (0.5, 2.0)])
def test_are_the_log_softmax_of_the_logits_before_each_token(temperature, softcap):
    rows = sequences(7)
    logits = np.asarray(DECODER.apply({"params": PARAMS}, rows.tokens, rows.valid), np.float64)
    logits = (logits if softcap is None else softcap * np.tanh(logits / softcap)) / temperature
    log_softmax = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(log_softmax[:, :-1], np.asarray(rows.tokens)[:, 1:, None], axis=-1)[..., 0]
    got = of_rows(rows, temperature=temperature, softcap=softcap)
    np.testing.assert_allclose(got, expected[:, -RESPONSE:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "chunk_size", [5, pytest.param(42, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
)
def test_chunks_change_nothing(chunk_size):
    rows = sequences(7)

    def total(params, chunk_size):
        log_probs = response_log_probs(DECODER, params, rows, response_length=RESPONSE, chunk_size=chunk_size)
        return jnp.sum(jnp.sin(3 * log_probs)), log_probs

    (_, whole), whole_grad = jax.value_and_grad(total, has_aux=True)(PARAMS, None)
    (_, chunked), grad = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=1)(PARAMS, chunk_size)
    np.testing.assert_allclose(chunked, whole, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(whole_grad), strict=True):
        assert np.max(np.abs(a - b)) <= 1e-5 * np.max(np.abs(b))


@pytest.mark.hlo
def test_chunked_logits_never_exist_at_once():
    states, head = jnp.ones((64, 8)), jnp.ones((8, VOCAB))
    tokens = jnp.zeros(64, jnp.int32)

    def shapes(chunk_size):
        text = jax.jit(jax.grad(lambda head: token_log_probs(states, head, tokens, chunk_size=chunk_size).sum()))
        return text.lower(head).as_text()

    assert f"64x{VOCAB}x" in shapes(None)
    assert f"64x{VOCAB}x" not in shapes(8)
    assert f"8x{VOCAB}x" in shapes(8)


def test_padding_does_not_reach_the_response():
    rows = sequences(6)
    noise = jax.random.randint(jax.random.key(1), rows.tokens.shape, 0, VOCAB)
    other = rows._replace(tokens=jnp.where(rows.valid, rows.tokens, noise))
    valid = rows.valid[:, -RESPONSE:]
    np.testing.assert_array_equal(jnp.where(valid, of_rows(rows), 0), jnp.where(valid, of_rows(other), 0))
    assert np.isfinite(of_rows(other)).all()


def test_are_float32_in_bfloat16_computation():
    rows = sequences(6)
    log_probs = of_rows(rows, dtype=jnp.bfloat16)
    assert log_probs.dtype == jnp.float32
    # The states are off by some 2**-8 of their size in each of a dozen operations; the logits are of order 10.
    np.testing.assert_allclose(log_probs, of_rows(rows), atol=1.0)
    assert np.corrcoef(np.ravel(log_probs), np.ravel(of_rows(rows)))[0, 1] > 0.99

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_decoder import DECODER, EOS, PAD, PROMPT, RESPONSE, VOCAB, params_of, prompts

from haepo_jax.language.model.sharding import make_mesh, replicated, shard_rows
from haepo_jax.language.training import sampling
from haepo_jax.language.training.sampling import append_to_prompts, sample
from haepo_jax.language.training.scoring import response_log_probs

pytestmark = pytest.mark.usefixtures("exact_products")

PARAMS = params_of()
ENDS = (EOS, 7)


@functools.partial(jax.jit, static_argnames=("num_samples", "temperature", "top_p", "response_length", "greedy"))
def drawn(params, tokens, valid, key, **kwargs):
    kwargs = {"response_length": RESPONSE} | kwargs
    return sample(DECODER, params, tokens, valid, key, **{"eos_ids": ENDS, "pad_id": PAD, **kwargs})


@pytest.fixture(scope="module")
def samples():
    return drawn(PARAMS, *prompts(40), jax.random.key(0), num_samples=8)


def test_a_response_ends_with_the_first_token_that_ends_one(samples):
    assert samples.tokens.shape == (320, RESPONSE)
    for tokens, valid, ended in zip(samples.tokens, samples.valid, samples.ended, strict=True):
        length = int(valid.sum())
        assert list(valid) == [True] * length + [False] * (RESPONSE - length)
        assert all(tokens[length:] == PAD)
        assert not set(ENDS).intersection(np.asarray(tokens[: length - 1]))
        assert bool(ended) == (int(tokens[length - 1]) in ENDS)
        assert ended or length == RESPONSE
    assert 0 < samples.ended.mean() < 1
    assert set(ENDS) <= set(np.asarray(samples.tokens).ravel())
    assert len(set(np.asarray(samples.valid.sum(axis=-1)))) == RESPONSE


@pytest.mark.parametrize("temperature", [pytest.param(1.0, marks=pytest.mark.slow), 0.7])
def test_log_probs_are_those_of_the_trainer(temperature):
    tokens, valid = prompts(40)
    samples = drawn(PARAMS, tokens, valid, jax.random.key(1), num_samples=8, temperature=temperature)
    scored = response_log_probs(
        DECODER, PARAMS, append_to_prompts(tokens, valid, samples), response_length=RESPONSE, temperature=temperature
    )
    assert np.all(samples.log_probs[~samples.valid] == 0)
    np.testing.assert_allclose(samples.log_probs, jnp.where(samples.valid, scored, 0), rtol=2e-4, atol=2e-4)


def first_token_counts(key, **kwargs):
    """Counts of the first token over many samples of one prompt, and its distribution by the model."""
    tokens, valid = prompts(5)
    tokens, valid = tokens[4:], valid[4:]  # the longest
    samples = drawn(PARAMS, tokens, valid, key, num_samples=4000, response_length=1, **kwargs)
    logits = DECODER.apply({"params": PARAMS}, tokens, valid)[0, -1] / kwargs.get("temperature", 1.0)
    return np.bincount(samples.tokens[:, 0], minlength=VOCAB), np.asarray(jax.nn.softmax(logits)), samples


@pytest.mark.parametrize("temperature", [pytest.param(1.0, marks=pytest.mark.slow), 0.5])
def test_tokens_come_as_often_as_the_model_says(temperature):
    counts, probabilities, samples = first_token_counts(jax.random.key(2), temperature=temperature)
    deviation = np.sqrt(4000 * probabilities * (1 - probabilities))
    assert np.all(np.abs(counts - 4000 * probabilities) <= 4.5 * deviation + 1)
    expected = -np.sum(probabilities * np.log(probabilities))
    np.testing.assert_allclose(samples.entropy[0, 0], expected, rtol=1e-4)


def test_top_p_draws_from_the_likeliest_and_scores_under_the_whole_policy():
    counts, probabilities, samples = first_token_counts(jax.random.key(3), top_p=0.8)
    order = np.argsort(-probabilities)
    kept = order[: int(np.searchsorted(np.cumsum(probabilities[order]), 0.8)) + 1]
    assert set(np.flatnonzero(counts)) == set(kept)
    assert len(kept) < VOCAB
    expected = probabilities[kept] / probabilities[kept].sum()
    deviation = np.sqrt(4000 * expected * (1 - expected))
    assert np.all(np.abs(counts[kept] - 4000 * expected) <= 4.5 * deviation + 1)
    np.testing.assert_allclose(samples.log_probs[:, 0], np.log(probabilities)[samples.tokens[:, 0]], atol=1e-5)


def test_neither_growing_caches_nor_leaving_out_what_has_ended_changes_a_sample(samples, monkeypatch):
    assert [tuple(stage) for stage in sampling._plan(320, RESPONSE)] == [
        (320, 1, 80),
        (320, 5, 80),
        (80, 5, 20),
        (20, 5, 0),
    ]
    assert sampling._plan(2000, 1) == []
    assert tuple(sampling._plan(2000, 3)[0]) == (2000, 2, 500)
    monkeypatch.setattr(sampling, "_MANY", 10**9)
    assert [tuple(stage) for stage in sampling._plan(320, RESPONSE)] == [(320, 5, 0)]
    options = {"num_samples": 8, "response_length": RESPONSE, "eos_ids": ENDS, "pad_id": PAD}
    whole = jax.jit(functools.partial(sample, DECODER, **options))(PARAMS, *prompts(40), jax.random.key(0))
    for name in ("tokens", "valid", "ended"):
        np.testing.assert_array_equal(getattr(samples, name), getattr(whole, name))
    np.testing.assert_allclose(samples.log_probs, whole.log_probs, atol=1e-5)
    np.testing.assert_allclose(samples.entropy, whole.entropy, atol=1e-5)


@pytest.mark.slow
def test_prompts_that_are_spread_over_devices_are_answered_as_on_one(samples):
    mesh = make_mesh(1, 40)
    assert mesh.size == 8
    spread = jax.device_put(prompts(40), shard_rows(mesh))
    again = drawn(jax.device_put(PARAMS, replicated(mesh)), *spread, jax.random.key(0), num_samples=8)
    for name in ("tokens", "valid", "ended"):
        np.testing.assert_array_equal(getattr(again, name), getattr(samples, name))
    np.testing.assert_allclose(again.log_probs, samples.log_probs, atol=5e-5)  # products of other sizes


def test_samples_of_a_prompt_lie_together_and_differ(samples):
    tokens, valid = prompts(40)
    sequences = append_to_prompts(tokens, valid, samples)
    np.testing.assert_array_equal(sequences.tokens[:, :PROMPT], np.repeat(tokens, 8, axis=0))
    np.testing.assert_array_equal(sequences.valid[:, :PROMPT], np.repeat(valid, 8, axis=0))
    assert any(len({tuple(row) for row in group}) > 1 for group in np.asarray(samples.tokens).reshape(40, 8, -1))


@pytest.mark.slow
def test_a_prompt_padded_further_gives_the_same_distribution():
    tokens, valid = prompts(5)
    wide = jnp.pad(tokens, ((0, 0), (3, 0))), jnp.pad(valid, ((0, 0), (3, 0)))
    near, far = (drawn(PARAMS, *each, jax.random.key(4), num_samples=50) for each in ((tokens, valid), wide))
    np.testing.assert_array_equal(near.tokens, far.tokens)
    np.testing.assert_allclose(near.log_probs, far.log_probs, rtol=1e-5, atol=1e-5)


def test_the_same_key_gives_the_same_samples_and_another_key_others(samples):
    again = drawn(PARAMS, *prompts(40), jax.random.key(0), num_samples=8)
    jax.tree.map(np.testing.assert_array_equal, again, samples)
    other = drawn(PARAMS, *prompts(40), jax.random.key(9), num_samples=8)
    assert np.any(other.tokens != samples.tokens)


def test_a_greedy_response_is_the_likeliest_token_each_time_whatever_the_key():
    tokens, valid = prompts(40)
    first, second = (drawn(PARAMS, tokens, valid, jax.random.key(seed), greedy=True) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    whole = append_to_prompts(tokens, valid, first)
    logits = DECODER.apply({"params": PARAMS}, whole.tokens, whole.valid)[:, -RESPONSE - 1 : -1]
    likeliest = np.where(first.valid, np.argmax(logits, axis=-1), PAD)
    np.testing.assert_array_equal(first.tokens, likeliest)

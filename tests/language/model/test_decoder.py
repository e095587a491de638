"""The decoder against its float64 reference; padding, caches, remat, adapters, dtypes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.numpy_decoder import ARCHITECTURES, NEWER, random_params, reference_logits

from haepo_jax.language.model.decoder import Adapter, Decoder, make_cache
from haepo_jax.language.model.lora import init_adapter, join

pytestmark = pytest.mark.usefixtures("exact_products")

ADAPTER = Adapter(rank=3, alpha=7.0)
LENGTHS = (9, 4, 1)


@functools.cache
def decoder_and_params(name, **options):
    decoder = Decoder((ARCHITECTURES | NEWER)[name], **options)
    return decoder, random_params(decoder)


@functools.cache
def applied(decoder):
    return jax.jit(decoder.apply)


OFTEN = ("llama", "gpt_neox")
"""Of the architectures, the two that differ most: what the others differ in is in the tests of their logits."""
SELDOM = [name if name in ("gemma2", "qwen3_moe") else pytest.param(name, marks=pytest.mark.slow) for name in NEWER]
"""The newer ones, all but two of them in the slow tests."""


def rows(seed=0, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 19, size=length) for length in lengths]


def left_padded(sequences, length, fill=0):
    tokens = np.stack([np.concatenate([np.full(length - len(row), fill), row]) for row in sequences])
    valid = np.stack([np.arange(length) >= length - len(row) for row in sequences])
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(valid)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SELDOM])
def test_logits_are_those_of_the_reference(name):
    decoder, params = decoder_and_params(name)
    got = applied(decoder)({"params": params}, *left_padded(rows(), 11))
    assert got.dtype == jnp.float32
    for row, logits in zip(rows(), got, strict=True):
        expected = reference_logits(decoder.architecture, params, row)
        assert expected.std() > 0.5
        np.testing.assert_allclose(logits[-len(row) :], expected, atol=3e-5)


@pytest.mark.parametrize("name", ["llama", pytest.param("gpt_neox", marks=pytest.mark.slow)])
@pytest.mark.parametrize("fill", [0, 18, 19, 10**6, -1])
def test_padding_changes_nothing_whatever_it_holds(name, fill):
    decoder, params = decoder_and_params(name)
    (row,) = rows(lengths=(6,))
    alone = applied(decoder)({"params": params}, *left_padded([row], 6))
    for length in (7, 20):
        padded = applied(decoder)({"params": params}, *left_padded([row], length, fill))
        assert jnp.all(jnp.isfinite(padded))
        np.testing.assert_allclose(padded[:, -6:], alone, atol=1e-5)
    right = jnp.asarray([[*row, fill, fill]], jnp.int32), jnp.asarray([[True] * 6 + [False] * 2])
    np.testing.assert_allclose(applied(decoder)({"params": params}, *right)[:, :6], alone, atol=1e-5)


def test_a_gap_changes_nothing():
    decoder, params = decoder_and_params("qwen3")
    (row,) = rows(lengths=(6,))
    alone = applied(decoder)({"params": params}, *left_padded([row], 6))
    tokens = jnp.asarray([[*row[:2], 0, 0, *row[2:]]], jnp.int32)
    valid = jnp.asarray([[True, True, False, False, True, True, True, True]])
    got = applied(decoder)({"params": params}, tokens, valid)
    np.testing.assert_allclose(got[0, valid[0]], alone[0], atol=1e-5)


def test_a_row_of_padding_alone_has_finite_logits_and_gradients():
    decoder, params = decoder_and_params("llama")
    tokens, valid = left_padded([[], *rows()], 9)

    def loss(params):
        return jnp.mean(jnp.where(valid[..., None], decoder.apply({"params": params}, tokens, valid), 0) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert jnp.isfinite(value)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_later_tokens_do_not_change_earlier_logits():
    decoder, params = decoder_and_params("qwen2")
    tokens, valid = left_padded(rows(lengths=(8, 8)), 8)
    one = applied(decoder)({"params": params}, tokens, valid)
    other = applied(decoder)({"params": params}, tokens.at[:, 5:].set((tokens[:, 5:] + 1) % 19), valid)
    np.testing.assert_array_equal(one[:, :5], other[:, :5])
    assert jnp.all(jnp.any(one[:, 5:] != other[:, 5:], axis=-1))


@pytest.mark.parametrize(
    "name",
    [
        name if name in (*OFTEN, "gemma2") else pytest.param(name, marks=pytest.mark.slow)
        for name in (*ARCHITECTURES, *NEWER)
    ],
)
@pytest.mark.parametrize("prefill", [0, 7])
def test_a_cache_gives_the_logits_of_the_whole_sequence(name, prefill):
    decoder, params = decoder_and_params(name)
    variables, length, room = {"params": params}, 11, 3
    tokens, valid = left_padded(rows(), length, fill=5)
    whole = applied(decoder)(variables, tokens, valid)
    cache = make_cache(decoder.architecture, len(tokens), length + room, jnp.float32)
    valid = jnp.pad(valid, ((0, 0), (0, room)))

    @jax.jit
    def step(tokens, valid, cache, start):
        states, cache = decoder.apply(variables, tokens, valid, cache, start, method="hidden")
        return decoder.apply(variables, states, method="logits"), cache

    pieces = [slice(0, prefill)] * (prefill > 0) + [slice(at, at + 1) for at in range(prefill, length)]
    got = []
    for piece in pieces:
        known = valid & (jnp.arange(length + room) < piece.stop)
        logits, cache = step(tokens[:, piece], known, cache, piece.start)
        got.append(logits)
    got = jnp.concatenate(got, axis=1)
    filled = valid[:, :length]
    np.testing.assert_allclose(got[filled], whole[filled], atol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_rows_that_share_a_prompt_share_its_keys(name):
    decoder, params = decoder_and_params(name)
    arch, variables, count = decoder.architecture, {"params": params}, 3
    prompts, filled = left_padded(rows(lengths=(5, 2)), 6)
    answers = jnp.asarray(np.random.default_rng(1).integers(0, 19, (2 * count, 4)), jnp.int32)
    repeated, valid = (jnp.repeat(leaf, count, axis=0) for leaf in (prompts, filled))
    valid = jnp.pad(valid, ((0, 0), (0, 4)), constant_values=True)
    whole = applied(decoder)(variables, jnp.concatenate([repeated, answers], axis=1), valid)

    @jax.jit
    def in_two(prompts, answers):
        _, prefix = decoder.apply(variables, prompts, filled, make_cache(arch, 2, 6, jnp.float32), method="hidden")
        cache, states = make_cache(arch, 2 * count, 4, jnp.float32), []
        for at in (slice(0, 3), slice(3, 4)):
            some, cache = decoder.apply(
                variables, answers[:, at], valid, cache, at.start, prefix=prefix, method="hidden"
            )
            states.append(some)
        return decoder.apply(variables, jnp.concatenate(states, axis=1), method="logits")

    np.testing.assert_allclose(in_two(prompts, answers), whole[:, 6:], atol=1e-5)


@pytest.mark.slow
def test_remat_changes_neither_values_nor_gradients():
    decoder, params = decoder_and_params("qwen3")
    batch = left_padded(rows(), 10)

    def value_and_gradient(decoder):
        return jax.jit(
            jax.value_and_grad(lambda params: jnp.mean(jax.nn.softmax(decoder.apply({"params": params}, *batch)) ** 2))
        )(params)

    plain, again = value_and_gradient(decoder), value_and_gradient(decoder.clone(remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), plain, again)
    assert jnp.all(jnp.any(plain[1]["embedding"] != 0, axis=-1)[rows()[0]])


@pytest.mark.slow
def test_remat_keeps_no_more_than_the_layers_inputs():
    def temporary(remat):
        arch = dataclasses.replace(ARCHITECTURES["qwen3"], num_layers=8)
        decoder = Decoder(arch, remat=remat)
        params = random_params(decoder)
        tokens, valid = jnp.zeros((4, 64), jnp.int32), jnp.ones((4, 64), bool)
        loss = jax.grad(lambda params: decoder.apply({"params": params}, tokens, valid, method="hidden")[0].sum())
        return jax.jit(loss).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary(True) < 0.4 * temporary(False)


@pytest.mark.parametrize("name", ["llama_biased", "gpt_neox"])
def test_an_adapter_is_what_the_reference_adds(name):
    decoder, params = decoder_and_params(name, adapter=ADAPTER)
    (row,) = rows(lengths=(7,))
    got = applied(decoder)({"params": params}, *left_padded([row], 8))[0, 1:]
    expected = reference_logits(decoder.architecture, params, row, ADAPTER)
    np.testing.assert_allclose(got, expected, atol=3e-5)
    off = applied(decoder.clone(adapter=None))({"params": params}, *left_padded([row], 8))[0, 1:]
    np.testing.assert_allclose(off, reference_logits(decoder.architecture, params, row), atol=3e-5)
    assert np.max(np.abs(off - got)) > 0.1


@pytest.mark.slow
def test_a_fresh_adapter_changes_nothing_and_learns():
    decoder = Decoder(ARCHITECTURES["qwen3"], adapter=ADAPTER)
    batch = left_padded(rows(), 9)
    base = random_params(decoder.clone(adapter=None))
    params = join(base, init_adapter(decoder, jax.random.key(0)))
    plain = applied(decoder.clone(adapter=None))({"params": params}, *batch)
    np.testing.assert_array_equal(applied(decoder)({"params": params}, *batch), plain)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(decoder.apply({"params": params}, *batch)[:, -1, 0])))(params)
    for half, learns in (("adapter_in", False), ("adapter_out", True)):
        leaves = [leaf for path, leaf in flatten_dict(gradient).items() if path[-1] == half]
        assert len(leaves) == 7
        assert all(bool(jnp.any(leaf != 0)) == learns for leaf in leaves)


def test_parameters_are_as_documented():
    arch = ARCHITECTURES["qwen3"]
    params = decoder_and_params("qwen3")[1]
    assert set(params) == {"embedding", "layers", "final_norm", "head"}
    assert params["embedding"].shape == (19, 16)
    assert params["head"].shape == (16, 19)
    assert all(leaf.shape[0] == arch.num_layers for leaf in jax.tree.leaves(params["layers"]))
    assert params["layers"]["attention"]["key"]["kernel"].shape == (2, 16, 2 * 6)
    assert set(params["layers"]["mlp"]) == {"gate", "up", "down"}


def test_a_tied_head_is_the_embedding():
    decoder, params = decoder_and_params("qwen2")
    assert "head" not in params
    head = decoder.apply({"params": params}, method="head_matrix")
    np.testing.assert_array_equal(head, params["embedding"].T)


def test_bfloat16_is_near_float32_and_its_logits_are_float32():
    decoder, params = decoder_and_params("gpt_neox")
    batch = left_padded(rows(), 9)
    half = decoder.clone(dtype=jnp.bfloat16)
    states = jax.eval_shape(lambda: half.apply({"params": params}, *batch, method="hidden")[0])
    assert states.dtype == jnp.bfloat16
    got, exact = applied(half)({"params": params}, *batch), applied(decoder)({"params": params}, *batch)
    assert got.dtype == jnp.float32
    valid = batch[1]
    assert 1e-4 < np.sqrt(np.mean((got - exact)[valid] ** 2) / np.mean(exact[valid] ** 2)) < 0.03


def test_large_means_do_not_cost_the_layer_norm_its_digits():
    decoder, params = decoder_and_params("gpt_neox")
    params = params | {"embedding": params["embedding"] + 300}
    (row,) = rows(lengths=(5,))
    got = applied(decoder)({"params": params}, *left_padded([row], 5))[0]
    np.testing.assert_allclose(got, reference_logits(decoder.architecture, params, row), atol=2e-3)

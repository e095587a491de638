"""Attention against its formula, in pieces and whole, and when the fused kernel is asked for."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.language.model import attention
from haepo_jax.language.model.attention import Piece, attend, attend_to_pieces

pytestmark = pytest.mark.usefixtures("exact_products")

BATCH, LENGTH, HEADS, KV_HEADS, SIZE = 4, 3, 4, 2, 8


def made(slots, rows=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    queries = jnp.asarray(rng.normal(size=(BATCH, LENGTH, HEADS, SIZE)), jnp.float32)
    keys, values = (jnp.asarray(rng.normal(size=(rows, slots, KV_HEADS, SIZE)), jnp.float32) for _ in range(2))
    mask = jnp.asarray(rng.random((BATCH, 1, LENGTH, slots)) < 0.7).at[..., 0].set(True)
    return queries, keys, values, mask


def expected(queries, keys, values, mask, scale, softcap):
    """One query and one head at a time, in float64."""
    queries, keys, values = (np.asarray(leaf, np.float64) for leaf in (queries, keys, values))
    result = np.zeros(queries.shape)
    for row, step, head in np.ndindex(*queries.shape[:3]):
        shared = head * KV_HEADS // HEADS
        scores = keys[row, :, shared] @ queries[row, step, head] * scale
        scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
        weights = np.where(mask[row, 0, step], np.exp(scores), 0)
        result[row, step, head] = weights @ values[row, :, shared] / weights.sum()
    return result


@pytest.mark.parametrize(("scale", "softcap"), [(None, None), (0.7, None), (0.7, 1.5)])
def test_is_the_formula(scale, softcap):
    given = made(5)
    got = attend(*given, scale=scale, softcap=softcap)
    np.testing.assert_allclose(got, expected(*given, scale or SIZE**-0.5, softcap), atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_pieces_are_under_one_softmax_and_rows_share_keys(softcap):
    queries, shared_keys, shared_values, shared_mask = made(4, rows=2)
    _, keys, values, mask = made(3, seed=1)
    pieces = [
        Piece(jnp.moveaxis(shared_keys, 2, 1), jnp.moveaxis(shared_values, 2, 1), shared_mask),
        Piece(jnp.moveaxis(keys, 2, 1), jnp.moveaxis(values, 2, 1), mask),
    ]
    got = attend_to_pieces(queries, pieces, softcap=softcap)
    together = [
        jnp.concatenate([jnp.repeat(first, 2, axis=0), second], axis=1)
        for first, second in ((shared_keys, keys), (shared_values, values))
    ]
    whole = jnp.concatenate([shared_mask, mask], axis=-1)
    np.testing.assert_allclose(got, expected(queries, *together, whole, SIZE**-0.5, softcap), atol=1e-5)


def test_a_row_that_may_look_nowhere_is_finite():
    queries, keys, values, mask = made(4)
    nowhere = jnp.zeros_like(mask)
    assert jnp.isfinite(attend(queries, keys, values, nowhere)).all()
    piece = Piece(jnp.moveaxis(keys, 2, 1), jnp.moveaxis(values, 2, 1), nowhere)
    assert jnp.isfinite(attend_to_pieces(queries, [piece])).all()


def test_the_fused_kernel_is_given_even_lengths_and_its_surplus_is_cut(monkeypatch):
    given, seen = made(5), []
    plain = jax.nn.dot_product_attention

    def recorded(queries, keys, values, *, mask, scale, implementation=None):
        seen.append((implementation, queries.shape, keys.shape, mask.shape))
        return plain(queries, keys, values, mask=mask, scale=scale)

    expected = attend(*given)
    monkeypatch.setattr(attention, "_has_fused_kernel", lambda queries: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", recorded)
    got = attend(*given)
    assert seen == [("cudnn", (BATCH, 4, HEADS, SIZE), (BATCH, 6, KV_HEADS, SIZE), (BATCH, 1, 4, 6))]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "capability", "dtype", "size", "there"),
    [
        ("gpu", "9.0", "bfloat16", 128, True),
        ("gpu", "8.0", "float16", 64, True),
        ("gpu", "9.0", "bfloat16", 256, True),
        ("gpu", "8.0", "bfloat16", 256, False),
        ("gpu", "7.5", "bfloat16", 64, False),
        ("gpu", "gfx942", "bfloat16", 64, False),
        ("gpu", None, "bfloat16", 64, False),
        ("gpu", "9.0", "float32", 64, False),
        ("gpu", "9.0", "bfloat16", 12, False),
        ("tpu", None, "bfloat16", 128, False),
        ("cpu", None, "bfloat16", 128, False),
    ],
)
def test_the_fused_kernel_is_for_half_precision_on_recent_gpus_of_nvidia(
    monkeypatch, backend, capability, dtype, size, there
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(compute_capability=capability)])
    queries = types.SimpleNamespace(dtype=np.dtype(jnp.dtype(dtype)), shape=(1, 2, 3, size))
    assert attention._has_fused_kernel(queries) == there

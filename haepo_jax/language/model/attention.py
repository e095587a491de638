"""Attention of queries to keys and values: of whole sequences, and of new tokens to caches."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_MASKED = -1e30
_HALF = (jnp.bfloat16, jnp.float16)


class Piece(NamedTuple):
    """Keys and values that queries attend to, in the layout of a cache."""

    keys: jax.Array
    """`[N, kv_heads, S, head_dim]`, where N divides the queries' B: B / N rows, adjacent, share them."""
    values: jax.Array
    """As `keys`."""
    mask: jax.Array
    """`[B, 1, T, S]` boolean, True where a query may look."""


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Attends within whole sequences, by a fused kernel where there is one (cuDNN's, in half precision).

    Args:
      queries: `[B, T, heads, head_dim]`.
      keys: `[B, S, kv_heads, head_dim]`; groups of adjacent heads share one of these.
      values: as `keys`.
      mask: `[B, 1, T, S]` boolean, True where a query may look.
      scale: of the scores; 1 / sqrt(head_dim) when None.
      softcap: scores s become `softcap * tanh(s / softcap)`.

    Returns:
      As `queries`. The softmax is in float32; a row that may look nowhere is finite and means nothing.
    """
    if softcap is not None:
        piece = Piece(jnp.moveaxis(keys, 2, 1), jnp.moveaxis(values, 2, 1), mask)
        return attend_to_pieces(queries, [piece], scale=scale, softcap=softcap)
    if not _has_fused_kernel(queries):
        return jax.nn.dot_product_attention(queries, keys, values, mask=mask, scale=scale)
    # The kernel's gradient wants even lengths.
    length, odd_queries, odd_keys = queries.shape[1], queries.shape[1] % 2, keys.shape[1] % 2
    queries = jnp.pad(queries, ((0, 0), (0, odd_queries), (0, 0), (0, 0)))
    keys, values = (jnp.pad(leaf, ((0, 0), (0, odd_keys), (0, 0), (0, 0))) for leaf in (keys, values))
    mask = jnp.pad(mask, ((0, 0), (0, 0), (0, odd_queries), (0, odd_keys)))
    result = jax.nn.dot_product_attention(queries, keys, values, mask=mask, scale=scale, implementation="cudnn")
    return result[:, :length]


def attend_to_pieces(
    queries: jax.Array, pieces: Sequence[Piece], *, scale: float | None = None, softcap: float | None = None
) -> jax.Array:
    """Attends to several pieces of keys and values at once, under one softmax.

    Args:
      queries: `[B, T, heads, head_dim]`.
      pieces: such as the keys of prompts, which all samples of a prompt share, and those of the samples.
      scale: as of `attend`.
      softcap: as of `attend`.

    Returns:
      As `queries`.
    """
    batch, length, heads, size = queries.shape
    scale = size**-0.5 if scale is None else scale
    every = []
    for piece in pieces:
        rows, kv_heads, slots, _ = piece.keys.shape
        grouped = _group(queries, rows, kv_heads)
        scores = jnp.einsum("nkqd,nksd->nkqs", grouped, piece.keys, preferred_element_type=jnp.float32) * scale
        if softcap is not None:
            scores = softcap * jnp.tanh(scores / softcap)
        scores = _ungroup(scores, (batch, length, heads, slots))
        every.append(jnp.where(jnp.moveaxis(piece.mask, 1, 2), scores, _MASKED))
    most = jnp.max(jnp.stack([jnp.max(scores, axis=-1) for scores in every]), axis=0)[..., None]
    weights = [jnp.exp(scores - most) for scores in every]
    total = sum(jnp.sum(part, axis=-1, keepdims=True) for part in weights)
    result = jnp.zeros(queries.shape, jnp.float32)
    for part, piece in zip(weights, pieces, strict=True):
        rows, kv_heads = piece.values.shape[:2]
        grouped = _group((part / total).astype(queries.dtype), rows, kv_heads)
        mixed = jnp.einsum("nkqs,nksd->nkqd", grouped, piece.values, preferred_element_type=jnp.float32)
        result += _ungroup(mixed, queries.shape)
    return result.astype(queries.dtype)


def _group(per_head: jax.Array, rows: int, kv_heads: int) -> jax.Array:
    """`[B, T, heads, X]` as `[rows, kv_heads, all that share these keys, X]`."""
    batch, length, heads, last = per_head.shape
    split = per_head.reshape(rows, batch // rows * length, kv_heads, heads // kv_heads, last)
    return jnp.moveaxis(split, 2, 1).reshape(rows, kv_heads, -1, last)


def _ungroup(grouped: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `_group`: `[B, T, heads, X]` again."""
    rows, kv_heads = grouped.shape[:2]
    batch, length, heads, last = shape
    split = grouped.reshape(rows, kv_heads, batch // rows * length, heads // kv_heads, last)
    return jnp.moveaxis(split, 1, 2).reshape(shape)


def _has_fused_kernel(queries: jax.Array) -> bool:
    """Returns whether cuDNN's attention takes these: in half precision, on NVIDIA's Ampere or later."""
    if queries.dtype not in _HALF or jax.default_backend() != "gpu":
        return False
    capability = getattr(jax.devices()[0], "compute_capability", None)  # not on GPUs of other makers
    try:
        generation = float(capability or 0)
    except ValueError:
        return False
    size = queries.shape[-1]
    return generation >= 8.0 and size % 8 == 0 and size <= (256 if generation >= 9.0 else 128)

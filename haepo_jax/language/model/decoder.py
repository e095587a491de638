"""The decoder: tokens to hidden states, and hidden states to logits, apart, so that no logit is made in vain.

One module for all families of `architecture.py`. Layers are stacked along a leading axis of their parameters and
run under one scan. Softmax, norms and logits are in float32 whatever the computation's dtype.
"""

import dataclasses
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.rotary import compute_rotary_angles, rotate

_UNROLLED = 4
"""Up to how many layers the scan is unrolled: the gradient of two layers takes 15% less time so, on a CPU."""


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Low-rank adaptation (LoRA, arXiv 2106.09685) of every projection in the layers."""

    rank: int
    alpha: float
    """The adapter's output is multiplied by `alpha / rank`."""


class Cache(NamedTuple):
    """Keys and values of the tokens so far, for `Decoder.hidden` to append to."""

    keys: jax.Array
    """`[layers, B, K, kv_heads, head_dim]`."""
    values: jax.Array
    """`[layers, B, K, kv_heads, head_dim]`."""


def make_cache(architecture: Architecture, batch: int, length: int, dtype: jnp.dtype) -> Cache:
    """Makes a cache for `batch` sequences of at most `length` tokens, padding included."""
    shape = (architecture.num_layers, batch, length, architecture.num_kv_heads, architecture.head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


class Decoder(nn.Module):
    """A decoder-only language model.

    Parameters: `embedding` `[V, D]`; `layers`, each leaf with a leading axis of layers; `final_norm`; and `head`
    `[D, V]` unless the embedding is tied. Projections hold `kernel` `[in, out]` and maybe `bias`, and with an
    adapter `adapter_in` `[in, rank]` and `adapter_out` `[rank, out]`. The same parameters applied by a module
    without the adapter give the model without it.
    """

    architecture: Architecture
    dtype: jnp.dtype = jnp.float32
    """Dtype of the computation; parameters keep their own."""
    adapter: Adapter | None = None
    remat: bool = False
    """Keep only each layer's input for the gradient, and compute the rest again."""

    def setup(self) -> None:
        """Declares the parameters."""
        arch = self.architecture
        self.embedding = self.param(
            "embedding", nn.initializers.normal(0.02), (arch.vocab_size, arch.hidden_size), jnp.float32
        )
        layer = nn.remat(_Layer, prevent_cse=False) if self.remat else _Layer
        self.layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=arch.num_layers,
            unroll=arch.num_layers if arch.num_layers <= _UNROLLED else 1,
        )(arch, self.dtype, self.adapter)
        self.final_norm = _norm(arch)
        if not arch.tie_embeddings:
            self.head = self.param("head", nn.initializers.lecun_normal(), (arch.hidden_size, arch.vocab_size))

    def __call__(self, tokens: jax.Array, valid: jax.Array) -> jax.Array:
        """Computes logits `[B, T, V]`, float32, of whole sequences; for shapes and small checks."""
        return self.logits(self.hidden(tokens, valid)[0])

    def hidden(
        self, tokens: jax.Array, valid: jax.Array, cache: Cache | None = None, start: jax.Array | int = 0
    ) -> tuple[jax.Array, Cache | None]:
        """Computes the last layer's normed states, from which the next token's logits are made.

        Args:
          tokens: `[B, T]` int32 token ids; what they are where not valid does not matter.
          valid: `[B, T]` boolean, False for padding; with a cache `[B, K]`, over all of its slots, those filled
            so far and by this call. A token's position is the number of valid tokens before it.
          cache: keys and values of earlier tokens, to attend to and to append to.
          start: the cache's slot of the first of these tokens.

        Returns:
          `(states [B, T, D], cache)`; the cache is None if none was given. States of padding are finite and
          mean nothing.
        """
        batch, length = tokens.shape
        slots = start + jnp.arange(length)
        positions = jnp.maximum(jnp.cumsum(valid, axis=-1) - 1, 0)[:, slots]
        before = jnp.arange(valid.shape[-1]) <= slots[:, None]
        mask = jnp.broadcast_to(before & valid[:, None, None, :], (batch, 1, length, valid.shape[-1]))
        shared = _Shared(compute_rotary_angles(self.architecture, positions), mask, start)
        states = jnp.take(self.embedding, jnp.where(valid[:, slots], tokens, 0), axis=0).astype(self.dtype)
        states, layers = self.layers(states, cache, shared)
        return self.final_norm(states).astype(self.dtype), layers

    def head_matrix(self) -> jax.Array:
        """Returns the head `[D, V]`."""
        return self.embedding.T if self.architecture.tie_embeddings else self.head

    def logits(self, states: jax.Array) -> jax.Array:
        """Computes logits `[..., V]`, float32, of states `[..., D]`."""
        return jnp.matmul(states, self.head_matrix().astype(self.dtype), preferred_element_type=jnp.float32)


class _Shared(NamedTuple):
    """The inputs that all layers share."""

    angles: jax.Array
    mask: jax.Array
    start: jax.Array | int


class _Layer(nn.Module):
    """Attention and MLP with their residuals."""

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(self, states: jax.Array, cache: Cache | None, shared: _Shared) -> tuple[jax.Array, Cache | None]:
        arch = self.architecture
        attended, cache = _Attention(arch, self.dtype, self.adapter, name="attention")(
            _norm(arch, "attention_norm")(states).astype(self.dtype), cache, shared
        )
        mlp = _Mlp(arch, self.dtype, self.adapter, name="mlp")
        norm = _norm(arch, "mlp_norm")
        if arch.parallel_residual:
            return states + attended + mlp(norm(states).astype(self.dtype)), cache
        states = states + attended
        return states + mlp(norm(states).astype(self.dtype)), cache


class _Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(self, states: jax.Array, cache: Cache | None, shared: _Shared) -> tuple[jax.Array, Cache | None]:
        arch = self.architecture
        project = functools.partial(_Projection, dtype=self.dtype, adapter=self.adapter)

        def heads(name: str, count: int) -> jax.Array:
            flat = project(count * arch.head_dim, arch.qkv_bias, name=name)(states)
            return flat.reshape(*states.shape[:-1], count, arch.head_dim)

        queries, keys = heads("query", arch.num_heads), heads("key", arch.num_kv_heads)
        values = heads("value", arch.num_kv_heads)
        if arch.query_key_norm:
            queries = _norm(arch, "query_norm")(queries).astype(self.dtype)
            keys = _norm(arch, "key_norm")(keys).astype(self.dtype)
        queries, keys = rotate(queries, shared.angles), rotate(keys, shared.angles)
        if cache is not None:
            at = (0, shared.start, 0, 0)
            keys = jax.lax.dynamic_update_slice(cache.keys, keys.astype(cache.keys.dtype), at)
            values = jax.lax.dynamic_update_slice(cache.values, values.astype(cache.values.dtype), at)
            cache = Cache(keys, values)
        attended = jax.nn.dot_product_attention(
            queries, keys.astype(self.dtype), values.astype(self.dtype), mask=shared.mask
        )
        flat = attended.reshape(*states.shape[:-1], arch.num_heads * arch.head_dim)
        return project(arch.hidden_size, arch.output_bias, name="output")(flat), cache


class _Mlp(nn.Module):
    """The feed-forward half of a layer."""

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        arch = self.architecture
        project = functools.partial(_Projection, use_bias=arch.mlp_bias, dtype=self.dtype, adapter=self.adapter)
        shape = states.shape
        states = _rows(states)
        inner = project(arch.intermediate_size, name="up")(states)
        if arch.gated_mlp:
            inner = nn.silu(project(arch.intermediate_size, name="gate")(states)) * inner
        else:
            inner = nn.gelu(inner, approximate=not arch.exact_gelu)
        return project(arch.hidden_size, name="down")(inner).reshape(shape)


class _Projection(nn.Module):
    """A matrix product, with its low-rank adapter where there is one."""

    features: int
    use_bias: bool
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        size = states.shape[-1]
        shape, states = (*states.shape[:-1], self.features), _rows(states)
        result = states @ self.param("kernel", nn.initializers.lecun_normal(), (size, self.features)).astype(
            self.dtype
        )
        if self.use_bias:
            result += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        if self.adapter is not None:
            rank, scale = self.adapter.rank, self.adapter.alpha / self.adapter.rank
            inward = self.param("adapter_in", nn.initializers.lecun_normal(), (size, rank)).astype(self.dtype)
            outward = self.param("adapter_out", nn.initializers.zeros, (rank, self.features)).astype(self.dtype)
            result += scale * ((states @ inward) @ outward)
        return result.reshape(shape)


def _rows(states: jax.Array) -> jax.Array:
    """`[..., D]` as `[N, D]`: XLA's CPU compiler takes twice as long for the gradient of the product of a cube."""
    return states.reshape(-1, states.shape[-1])


def _norm(architecture: Architecture, name: str | None = None) -> nn.Module:
    """The family's norm, which computes in float32."""
    kind = nn.LayerNorm if architecture.layer_norm else nn.RMSNorm
    # The fast variance, E[x^2] - E[x]^2, loses its digits where the mean is large.
    return kind(epsilon=architecture.norm_epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)

"""The decoder: tokens to hidden states, and hidden states to logits, apart, so that no logit is made in vain.

One module for all families of `architecture.py`. Layers are stacked along a leading axis of their parameters and
run under one scan. Softmax, norms and logits are in float32 whatever the computation's dtype.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax.language.model.architecture import Architecture, LayerKind
from haepo_jax.language.model.attention import Piece, attend, attend_to_pieces
from haepo_jax.language.model.rotary import compute_rotary_angles, get_attention_factor, rotate

_UNROLLED = 4
"""Up to how many layers the scan is unrolled: the gradient of two layers takes 15% less time so, on a CPU."""
_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "silu": nn.silu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": nn.gelu,
}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Low-rank adaptation (LoRA, arXiv 2106.09685) of every projection in the layers, but for experts and routers."""

    rank: int
    alpha: float
    """The adapter's output is multiplied by `alpha / rank`."""


class Cache(NamedTuple):
    """Keys and values of the tokens so far, for `Decoder.hidden` to append to."""

    keys: jax.Array
    """`[layers, B, kv_heads, K, head_dim]`."""
    values: jax.Array
    """`[layers, B, kv_heads, K, head_dim]`."""


def make_cache(architecture: Architecture, batch: int, length: int, dtype: jnp.dtype) -> Cache:
    """Makes a cache for `batch` sequences of at most `length` tokens, padding included."""
    shape = (architecture.num_layers, batch, architecture.num_kv_heads, length, architecture.head_dim)
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
        self,
        tokens: jax.Array,
        valid: jax.Array,
        cache: Cache | None = None,
        start: jax.Array | int = 0,
        *,
        prefix: Cache | None = None,
        positions: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None]:
        """Computes the last layer's normed states, from which the next token's logits are made.

        Args:
          tokens: `[B, T]` int32 token ids; what they are where not valid does not matter.
          valid: `[B, T]` boolean, False for padding; with a cache `[B, P + K]`, over all slots of prefix and cache,
            those filled so far and by this call; slots after these may be either.
          cache: keys and values of earlier tokens, to attend to and to append to.
          start: the cache's slot of the first of these tokens.
          prefix: keys and values of N prompts of P slots, which come before the cache and are not changed; N divides
            B, and B / N adjacent rows share each. P is 0 when None.
          positions: `[B, P + K]` int32, of every slot; when None, the number of valid tokens before it.

        Returns:
          `(states [B, T, D], cache)`; the cache is None if none was given. States of padding are finite and
          mean nothing.
        """
        arch = self.architecture
        size = 0 if prefix is None else prefix.keys.shape[-2]
        slots = size + start + jnp.arange(tokens.shape[1])
        if positions is None:
            positions = jnp.maximum(jnp.cumsum(valid, axis=-1) - 1, 0)
        kinds = tuple(dict.fromkeys(arch.layer_kinds))
        views = [self._view(kind, valid, positions, slots) for kind in kinds]
        view = views[0] if len(kinds) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *views)
        numbers = jnp.arange(arch.num_layers)
        of_kind = None if len(kinds) == 1 else jnp.asarray([kinds.index(kind) for kind in arch.layer_kinds])
        states = jnp.take(self.embedding, jnp.where(valid[:, slots], tokens, 0), axis=0).astype(self.dtype)
        if arch.scaled_embedding:
            states *= jnp.asarray(arch.hidden_size**0.5, self.dtype)
        own = _Own(None if cache is None else numbers, of_kind, prefix)
        (states, cache), _ = self.layers((states, cache), own, _Shared(view, start))
        return self.final_norm(states).astype(self.dtype), cache

    def _view(self, kind: LayerKind, valid: jax.Array, positions: jax.Array, slots: jax.Array) -> "_View":
        """The part of the sequences that layers of this kind see."""
        own = positions[:, slots]
        before = jnp.arange(valid.shape[-1]) <= slots[:, None]
        mask = before & valid[:, None, None, :]
        if kind.window is not None:
            mask &= (own[:, :, None] - positions[:, None, :] < kind.window)[:, None]
        mask = jnp.broadcast_to(mask, (valid.shape[0], 1, *before.shape))
        angles = compute_rotary_angles(self.architecture, own, kind)
        scaled = any(get_attention_factor(other) != 1 for other in self.architecture.layer_kinds)
        return _View(angles, mask, jnp.float32(get_attention_factor(kind)) if scaled else None)

    def head_matrix(self) -> jax.Array:
        """Returns the head `[D, V]`."""
        return self.embedding.T if self.architecture.tie_embeddings else self.head

    def logits(self, states: jax.Array) -> jax.Array:
        """Computes logits `[..., V]`, float32, of states `[..., D]`."""
        return compute_logits(states, self.head_matrix(), self.architecture.final_softcap)


def compute_logits(states: jax.Array, head: jax.Array, softcap: float | None) -> jax.Array:
    """Computes logits `[..., V]`, float32, of states `[..., D]` by a head `[D, V]`, capped where the model does so."""
    logits = jnp.matmul(states, head.astype(states.dtype), preferred_element_type=jnp.float32)
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


class _View(NamedTuple):
    """What layers of one kind see."""

    angles: jax.Array
    """`[B, T, rotated_dim / 2]`."""
    mask: jax.Array
    """`[B, 1, T, P + K]`."""
    factor: jax.Array | None
    """Of `rotate`."""


class _Shared(NamedTuple):
    """The inputs that all layers share."""

    view: _View
    """With a leading axis of kinds where layers are of several."""
    start: jax.Array | int


class _Own(NamedTuple):
    """The inputs that each layer has for itself, with a leading axis of layers."""

    number: jax.Array | None
    """Its place in the cache; None where there is no cache."""
    kind: jax.Array | None
    """Its row of `_Shared.view`; None where all layers are of one kind."""
    prefix: Cache | None


class _Layer(nn.Module):
    """Attention and MLP with their residuals."""

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, Cache | None], own: _Own, shared: _Shared
    ) -> tuple[tuple[jax.Array, Cache | None], None]:
        arch, (states, cache) = self.architecture, carry
        attended, cache = _Attention(arch, self.dtype, self.adapter, name="attention")(
            self._norm(arch.pre_norm, "attention_norm", states), cache, own, shared
        )
        half = _Mlp if arch.experts is None else _ExpertsMlp
        mlp = half(arch, self.dtype, self.adapter, name="mlp")
        attended = self._norm(arch.post_norm, "attention_post_norm", attended)
        if arch.parallel_residual:
            return (states + attended + mlp(self._norm(arch.pre_norm, "mlp_norm", states)), cache), None
        states = states + attended
        given = mlp(self._norm(arch.pre_norm, "mlp_norm", states))
        return (states + self._norm(arch.post_norm, "mlp_post_norm", given), cache), None

    def _norm(self, there: bool, name: str, states: jax.Array) -> jax.Array:
        return _norm(self.architecture, name)(states).astype(self.dtype) if there else states


class _Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(
        self, states: jax.Array, cache: Cache | None, own: _Own, shared: _Shared
    ) -> tuple[jax.Array, Cache | None]:
        arch = self.architecture
        project = functools.partial(_Projection, dtype=self.dtype, adapter=self.adapter)
        view = shared.view if own.kind is None else jax.tree.map(lambda leaf: leaf[own.kind], shared.view)

        def heads(name: str, count: int, *, normed: bool) -> jax.Array:
            flat = project(count * arch.head_dim, arch.qkv_bias, name=name)(states)
            if normed and arch.query_key_norm == "joint":
                flat = _norm(arch, f"{name}_norm")(flat).astype(self.dtype)
            split = flat.reshape(*states.shape[:-1], count, arch.head_dim)
            if normed and arch.query_key_norm == "head":
                split = _norm(arch, f"{name}_norm")(split).astype(self.dtype)
            return split

        queries = heads("query", arch.num_heads, normed=True)
        keys = heads("key", arch.num_kv_heads, normed=True)
        values = heads("value", arch.num_kv_heads, normed=False)
        queries, keys = (rotate(leaf, view.angles, view.factor) for leaf in (queries, keys))
        scale = None if arch.query_scale is None else arch.query_scale**-0.5
        if cache is not None:
            assert own.number is not None
            cache = _append(cache, Cache(keys, values), own.number, shared.start)
        if cache is None or (own.prefix is None and cache.keys.shape[-2] == states.shape[1]):  # all of it is new
            attended = attend(queries, keys, values, view.mask, scale=scale, softcap=arch.attention_softcap)
        else:
            caches = [] if own.prefix is None else [own.prefix]
            caches.append(jax.tree.map(lambda leaf: leaf[own.number], cache))
            pieces, at = [], 0
            for kept in caches:
                mask = view.mask[..., at : at + kept.keys.shape[-2]]
                pieces.append(Piece(kept.keys.astype(self.dtype), kept.values.astype(self.dtype), mask))
                at += kept.keys.shape[-2]
            attended = attend_to_pieces(queries, pieces, scale=scale, softcap=arch.attention_softcap)
        flat = attended.reshape(*states.shape[:-1], arch.num_heads * arch.head_dim)
        return project(arch.hidden_size, arch.output_bias, name="output")(flat), cache


def _append(cache: Cache, new: Cache, layer: jax.Array, start: jax.Array | int) -> Cache:
    """Writes a layer's `[B, T, kv_heads, head_dim]` into its cache, which a loop does in place."""

    def write(whole: jax.Array, part: jax.Array) -> jax.Array:
        part = jnp.moveaxis(part, 2, 1)[None].astype(whole.dtype)
        return jax.lax.dynamic_update_slice(whole, part, (layer, 0, 0, start, 0))

    return jax.tree.map(write, cache, new)


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
            inner = _ACTIVATIONS[arch.activation](project(arch.intermediate_size, name="gate")(states)) * inner
        else:
            inner = _ACTIVATIONS[arch.activation](inner)
        return project(arch.hidden_size, name="down")(inner).reshape(shape)


class _ExpertsMlp(nn.Module):
    """A mixture of experts, each token's chosen by its router.

    Every expert sees every token, and those that were not chosen count for nothing: no token is dropped, at the cost
    of `count / per_token` times the products. Router and experts have no adapter.
    """

    architecture: Architecture
    dtype: jnp.dtype
    adapter: Adapter | None

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        arch, experts = self.architecture, self.architecture.experts
        assert experts is not None
        shape = states.shape
        states = _rows(states)
        outward = functools.partial(_ExpertKernels, experts.count, self.dtype)
        wide = (arch.hidden_size, arch.intermediate_size)
        scores = _Projection(experts.count, use_bias=False, dtype=self.dtype, adapter=None, name="router")(states)
        shares = nn.softmax(scores.astype(jnp.float32))
        kept, chosen = jax.lax.top_k(shares, experts.per_token)
        if experts.normalized:
            kept /= jnp.sum(kept, axis=-1, keepdims=True)
        weights = jnp.sum(jax.nn.one_hot(chosen, experts.count) * kept[..., None], axis=-2).astype(self.dtype)
        inner = _ACTIVATIONS[arch.activation](jnp.einsum("nd,edf->enf", states, outward(wide, name="gate")()))
        inner *= jnp.einsum("nd,edf->enf", states, outward(wide, name="up")())
        inner *= weights.T[..., None]
        return jnp.einsum("enf,efd->nd", inner, outward(wide[::-1], name="down")()).reshape(shape)


class _ExpertKernels(nn.Module):
    """A matrix for each expert."""

    count: int
    dtype: jnp.dtype
    sizes: tuple[int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        init = nn.initializers.lecun_normal(batch_axis=0)
        return self.param("kernel", init, (self.count, *self.sizes)).astype(self.dtype)


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
    if architecture.norm_plus_one:
        return _PlusOneNorm(architecture.norm_epsilon, name=name)
    kind = nn.LayerNorm if architecture.layer_norm else nn.RMSNorm
    # The fast variance, E[x^2] - E[x]^2, loses its digits where the mean is large.
    return kind(epsilon=architecture.norm_epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)


class _PlusOneNorm(nn.Module):
    """RMSNorm that multiplies by 1 + scale, in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        states = states.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.zeros, states.shape[-1:]).astype(jnp.float32)
        size = jnp.mean(jnp.square(states), axis=-1, keepdims=True)
        return states * jax.lax.rsqrt(size + self.epsilon) * (1 + scale)

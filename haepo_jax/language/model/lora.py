"""Low-rank adapters (LoRA) as part of a decoder's parameters: made, taken apart, put together, folded in."""

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from haepo_jax.language.model.decoder import Adapter, Decoder
from haepo_jax.types import Params

_LEAVES = ("adapter_in", "adapter_out")


def init_adapter(decoder: Decoder, key: jax.Array) -> Params:
    """Makes a fresh adapter, which changes nothing yet.

    Args:
      decoder: with an adapter.
      key: PRNG key.

    Returns:
      The adapter's parameters alone; those of the decoder are never allocated.
    """
    nothing = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    return jax.jit(lambda key: split_adapter(decoder.init(key, *nothing)["params"])[1])(key)


def split_adapter(params: Params) -> tuple[Params, Params]:
    """Splits parameters into those of the model alone and those of its adapter; `join` is the inverse."""
    base: dict[tuple[str, ...], jax.Array] = {}
    adapter: dict[tuple[str, ...], jax.Array] = {}
    for path, leaf in flatten_dict(params).items():
        (adapter if path[-1] in _LEAVES else base)[path] = leaf
    return unflatten_dict(base), unflatten_dict(adapter)


def join(base: Params, adapter: Params) -> Params:
    """Joins the parameters of a model with those of its adapter."""
    return unflatten_dict(flatten_dict(base) | flatten_dict(adapter))


def fold(params: Params, adapter: Adapter) -> Params:
    """Folds an adapter into the parameters of a model without one, which gives the same logits.

    Args:
      params: of a model with an adapter.
      adapter: how it was applied.

    Returns:
      The base parameters with `alpha / rank * adapter_in @ adapter_out`, a float32 product, added to each kernel, in
      the kernel's dtype: in bfloat16 what is below its resolution is lost.
    """
    base, low_rank = (flatten_dict(part) for part in split_adapter(params))
    for path in low_rank:
        if path[-1] == "adapter_in":
            inward, outward = (low_rank[*path[:-1], name].astype(jnp.float32) for name in _LEAVES)
            change = adapter.alpha / adapter.rank * jnp.matmul(inward, outward, precision=jax.lax.Precision.HIGHEST)
            kernel = base[*path[:-1], "kernel"]
            base[*path[:-1], "kernel"] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
    return unflatten_dict(base)

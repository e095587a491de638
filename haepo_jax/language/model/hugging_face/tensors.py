"""The leaves of a decoder's parameters as the tensors of a Hugging Face folder, and back.

A folder has a tensor for each layer, `[out, in]`; our leaves hold all layers, `[layers, in, out]`. GPT-NeoX fuses
queries, keys and values: of its `[3 * D, D]` each head's three come one after the other.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.types import Params

SCORE = "score.weight"
"""The reward head of a classifier with one label, in every family."""

_LLAMA_NAMES = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "layers/attention_norm": "model.layers.{}.input_layernorm",
    "layers/mlp_norm": "model.layers.{}.post_attention_layernorm",
    "layers/attention/query": "model.layers.{}.self_attn.q_proj",
    "layers/attention/key": "model.layers.{}.self_attn.k_proj",
    "layers/attention/value": "model.layers.{}.self_attn.v_proj",
    "layers/attention/output": "model.layers.{}.self_attn.o_proj",
    "layers/attention/query_norm": "model.layers.{}.self_attn.q_norm",
    "layers/attention/key_norm": "model.layers.{}.self_attn.k_norm",
    "layers/mlp/gate": "model.layers.{}.mlp.gate_proj",
    "layers/mlp/up": "model.layers.{}.mlp.up_proj",
    "layers/mlp/down": "model.layers.{}.mlp.down_proj",
}
_FUSED = "gpt_neox.layers.{}.attention.query_key_value"
_NEOX_NAMES = {
    "embedding": "gpt_neox.embed_in",
    "final_norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
    "layers/attention_norm": "gpt_neox.layers.{}.input_layernorm",
    "layers/mlp_norm": "gpt_neox.layers.{}.post_attention_layernorm",
    "layers/attention/query": _FUSED,
    "layers/attention/key": _FUSED,
    "layers/attention/value": _FUSED,
    "layers/attention/output": "gpt_neox.layers.{}.attention.dense",
    "layers/mlp/up": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "layers/mlp/down": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
}
_PARTS = ("query", "key", "value")
_TRANSPOSED = ("kernel", "head")


class Leaf(NamedTuple):
    """One leaf of the parameters, as it is stored."""

    name: str
    """Of the tensor, with `{}` for the layer where each layer has its own."""
    shape: tuple[int, ...]
    """Of the leaf."""
    transposed: bool = False
    part: int | None = None
    """Its place in a fused tensor."""

    @property
    def by_layer(self) -> bool:
        """Whether each layer has a tensor."""
        return "{}" in self.name

    @property
    def tensor_names(self) -> list[str]:
        """The names of its tensors."""
        return [self.name.format(layer) for layer in range(self.shape[0])] if self.by_layer else [self.name]

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """The shape of each of its tensors."""
        if self.name == SCORE:
            return (1, *self.shape)
        shape = self.shape[1:] if self.by_layer else self.shape
        shape = shape[::-1] if self.transposed else shape
        return shape if self.part is None else (len(_PARTS) * shape[0], *shape[1:])


def list_leaves(architecture: Architecture) -> dict[str, Leaf]:
    """Lists every leaf of a decoder's parameters by its path, such as `layers/mlp/up/kernel`."""
    names = _NEOX_NAMES if architecture.family == "gpt_neox" else _LLAMA_NAMES
    tokens, valid = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, 1), bool)
    shapes = jax.eval_shape(Decoder(architecture).init, jax.random.key(0), tokens, valid)["params"]
    result = {}
    for path, leaf in flatten_by_path(shapes).items():
        module, _, kind = path.rpartition("/")
        name = names[module or kind]
        part = _PARTS.index(module.rpartition("/")[2]) if name == _FUSED else None
        result[path] = Leaf(name + (".bias" if kind == "bias" else ".weight"), leaf.shape, kind in _TRANSPOSED, part)
    return result


def flatten_by_path(params: Params) -> dict[str, Any]:
    """Lists the leaves of a tree of dictionaries by their paths, joined with `/`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def make_leaf(leaf: Leaf, read: Callable[[str], np.ndarray], num_heads: int, dtype: np.dtype) -> np.ndarray:
    """Makes a leaf from its tensors.

    Args:
      leaf: how it is stored.
      read: gives the tensor of a name, which has the leaf's `tensor_shape`.
      num_heads: of the attention.
      dtype: of the leaf.
    """
    result = np.empty(leaf.shape, dtype)
    for row, name in zip(result if leaf.by_layer else result[None], leaf.tensor_names, strict=True):
        tensor = read(name)
        if leaf.part is not None:
            by_head = tensor.reshape(num_heads, len(_PARTS), -1, *tensor.shape[1:])
            tensor = by_head[:, leaf.part].reshape(-1, *tensor.shape[1:])
        row[...] = tensor.T if leaf.transposed else tensor
    return result


def iterate_tensors(
    stored: Mapping[str, Leaf], params: Mapping[str, Any], num_heads: int, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor of some parameters, in the order of `count_tensor_bytes`.

    Args:
      stored: how each leaf is stored, by its path.
      params: the leaves by their paths.
      num_heads: of the attention.
      dtype: of the tensors.

    Yields:
      Names and tensors, which are contiguous.
    """
    for paths in _sharing_tensors(stored):
        leaf = stored[paths[0]]
        arrays = [np.asarray(params[path]).astype(dtype, copy=False) for path in paths]
        for layer, name in enumerate(leaf.tensor_names):
            rows = [array[layer] if leaf.by_layer else array for array in arrays]
            tensor, *others = [row.T if leaf.transposed else row for row in rows]
            if others:
                heads = [row.reshape(num_heads, -1, *row.shape[1:]) for row in (tensor, *others)]
                tensor = np.stack(heads, axis=1)
            yield name, np.ascontiguousarray(tensor).reshape(leaf.tensor_shape)


def count_tensor_bytes(stored: Mapping[str, Leaf], dtype: np.dtype) -> list[int]:
    """Counts the bytes of every tensor, in the order of `iterate_tensors`."""
    shared = [stored[paths[0]] for paths in _sharing_tensors(stored)]
    return [int(np.prod(leaf.tensor_shape)) * dtype.itemsize for leaf in shared for _ in leaf.tensor_names]


def _sharing_tensors(stored: Mapping[str, Leaf]) -> list[list[str]]:
    """The paths of the leaves, those together that share tensors, in the order of their parts."""
    groups: dict[str, list[str]] = {}
    for path, leaf in sorted(stored.items(), key=lambda item: item[1].part or 0):
        groups.setdefault(leaf.name, []).append(path)
    return list(groups.values())

"""The leaves of a decoder's parameters as the tensors of a Hugging Face folder, and back.

A folder has a tensor for each layer (and each expert), `[out, in]`; our leaves hold all layers, `[layers, in, out]`.
Some families fuse projections of the same input: Phi-3 puts their rows one below the other, and GPT-NeoX those of
each head's query, key and value.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.language.model.architecture import Architecture
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.model.hugging_face.families import FAMILIES
from haepo_jax.types import Params

SCORE = "score.weight"
"""The reward head of a classifier with one label, in every family."""
DTYPES = ("F32", "BF16", "F16")
"""Those of the tensors that are read, by the names that safetensors has for them."""

_TRANSPOSED = ("kernel", "head")


class Part(NamedTuple):
    """The place of a leaf in a fused tensor."""

    place: int
    """Among its parts."""
    sizes: tuple[int, ...]
    """Rows of each part."""
    blocks: int = 1
    """The tensor has so many blocks of rows, and each its share of every part, one after the other."""


class Leaf(NamedTuple):
    """One leaf of the parameters, as it is stored."""

    name: str
    """Of the tensor, with `{}` for the layer where each layer has its own, and another for the expert."""
    shape: tuple[int, ...]
    """Of the leaf."""
    transposed: bool = False
    part: Part | None = None
    """Its place in a fused tensor."""

    @property
    def stacked(self) -> tuple[int, ...]:
        """The leading axes along which each index has a tensor of its own."""
        return self.shape[: self.name.count("{}")]

    @property
    def tensor_names(self) -> list[str]:
        """The names of its tensors, in the order of its stacked axes."""
        return [self.name.format(*index) for index in np.ndindex(*self.stacked)]

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """The shape of each of its tensors."""
        if self.name == SCORE:
            return (1, *self.shape)
        shape = self.shape[len(self.stacked) :]
        shape = shape[::-1] if self.transposed else shape
        return shape if self.part is None else (sum(self.part.sizes), *shape[1:])


def list_leaves(architecture: Architecture) -> dict[str, Leaf]:
    """Lists every leaf of a decoder's parameters by its path, such as `layers/mlp/up/kernel`."""
    family = FAMILIES[architecture.family]
    tokens, valid = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, 1), bool)
    shapes = jax.eval_shape(Decoder(architecture).init, jax.random.key(0), tokens, valid)["params"]
    result: dict[str, Leaf] = {}
    fused: dict[str, list[str]] = {}
    for path, leaf in flatten_by_path(shapes).items():
        module, _, kind = path.rpartition("/")
        name = family.names[module or kind] + (".bias" if kind == "bias" else ".weight")
        result[path] = Leaf(name, leaf.shape, kind in _TRANSPOSED)
        fused.setdefault(name, []).append(path)
    order = list(family.names)  # in which a fused tensor has its parts
    for paths in fused.values():
        paths.sort(key=lambda path: order.index(path.rpartition("/")[0] or path))
        sizes = tuple(result[path].shape[-1] for path in paths)
        blocks = architecture.num_heads if family.by_head else 1
        if len(paths) > 1:
            for place, path in enumerate(paths):
                result[path] = result[path]._replace(part=Part(place, sizes, blocks))
    return result


def flatten_by_path(params: Params) -> dict[str, Any]:
    """Lists the leaves of a tree of dictionaries by their paths, joined with `/`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def make_leaf(leaf: Leaf, read: Callable[[str], np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Makes a leaf from its tensors.

    Args:
      leaf: how it is stored.
      read: gives the tensor of a name, which has the leaf's `tensor_shape`.
      dtype: of the leaf.
    """
    result = np.empty(leaf.shape, dtype)
    for index, name in zip(np.ndindex(*leaf.stacked), leaf.tensor_names, strict=True):
        tensor = read(name)
        if leaf.part is not None:
            tensor = _take(tensor, leaf.part)
        result[index] = tensor.T if leaf.transposed else tensor
    return result


def _take(tensor: np.ndarray, part: Part) -> np.ndarray:
    """A part of a fused tensor."""
    first, size = sum(part.sizes[: part.place]) // part.blocks, part.sizes[part.place] // part.blocks
    blocks = tensor.reshape(part.blocks, -1, *tensor.shape[1:])
    return blocks[:, first : first + size].reshape(-1, *tensor.shape[1:])


def iterate_tensors(
    stored: Mapping[str, Leaf], params: Mapping[str, Any], dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor of some parameters, in the order of `count_tensor_bytes`.

    Args:
      stored: how each leaf is stored, by its path.
      params: the leaves by their paths.
      dtype: of the tensors.

    Yields:
      Names and tensors, which are contiguous.
    """
    for paths in _sharing_tensors(stored):
        leaf = stored[paths[0]]
        arrays = [np.asarray(params[path]).astype(dtype, copy=False) for path in paths]
        for index, name in zip(np.ndindex(*leaf.stacked), leaf.tensor_names, strict=True):
            tensor, *others = [array[index].T if leaf.transposed else array[index] for array in arrays]
            if leaf.part is not None:
                rows = [row.reshape(leaf.part.blocks, -1, *row.shape[1:]) for row in (tensor, *others)]
                tensor = np.concatenate(rows, axis=1)
            yield name, np.ascontiguousarray(tensor).reshape(leaf.tensor_shape)


def count_tensor_bytes(stored: Mapping[str, Leaf], dtype: np.dtype) -> list[int]:
    """Counts the bytes of every tensor, in the order of `iterate_tensors`."""
    shared = [stored[paths[0]] for paths in _sharing_tensors(stored)]
    return [int(np.prod(leaf.tensor_shape)) * dtype.itemsize for leaf in shared for _ in leaf.tensor_names]


def _sharing_tensors(stored: Mapping[str, Leaf]) -> list[list[str]]:
    """The paths of the leaves, those together that share tensors, in the order of their parts."""
    groups: dict[str, list[str]] = {}
    for path, leaf in sorted(stored.items(), key=lambda item: 0 if item[1].part is None else item[1].part.place):
        groups.setdefault(leaf.name, []).append(path)
    return list(groups.values())

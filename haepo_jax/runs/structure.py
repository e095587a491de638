"""The structure of what a checkpoint holds: its arrays by name, with their dtypes and shapes."""

from typing import Any

import jax
import numpy as np

Tree = Any
"""A pytree of arrays with a leading axis of members: all NumPy arrays, or all `jax.Array`s over the same devices."""

Structure = dict[str, list[Any]]
"""The dtype and the shape, without the members, of each array by its name."""


def describe_structure(tree: Tree) -> Structure:
    """Describes what a checkpoint of such a tree states of its arrays."""
    return {name: [str(np.dtype(leaf.dtype)), list(leaf.shape[1:])] for name, leaf in name_leaves(tree).items()}


def find_difference(stored: Structure, expected: Structure) -> str:
    """Says where two structures differ, in words; empty where they do not."""
    for name in sorted(stored.keys() | expected.keys()):
        before, now = (_describe_array(structure.get(name)) for structure in (stored, expected))
        if before != now:
            return f"{name} is {before} there and {now} here"
    return ""


def name_leaves(tree: Tree) -> dict[str, Any]:
    """Names the arrays by their path, such as `learner.params.Dense_0.kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def is_described(array: Any) -> bool:
    """Says whether an array is described by its dtype and its shape."""
    return isinstance(array, list) and [type(part) for part in array] == [str, list]


def _describe_array(array: list[Any] | None) -> str:
    return "absent" if array is None else f"{array[0]}{array[1]}"

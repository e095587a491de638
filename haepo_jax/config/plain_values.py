"""Values from config files and callers as plain Python, before they are checked.

A config file may compute its numbers with NumPy or JAX. Their values are taken over where nothing is lost by it; what
is of no such kind is left as it is, for the checks to refuse.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from haepo_jax.errors import ConfigError, quoted

_DEEPEST = 20  # no setting lies deeper; an object that holds itself does


def plain(value: Any, path: str = "config", *, depth: int = 0) -> Any:
    """Converts a value, and all that it holds, to plain Python.

    Args:
      value: anything.
      path: where it stands, for the sentence of an error.
      depth: of `path`.

    Returns:
      Numbers and arrays of NumPy and JAX as numbers and tuples, mappings as dictionaries, lists and tuples of such;
      all else as it is.

    Raises:
      ConfigError: a name that is no text, a value that is required and missing, or nesting without end.

    Example:
      >>> plain({"seed": np.int64(3), "rate": np.float64(0.5), "sizes": np.array([8, 4])})
      {'seed': 3, 'rate': 0.5, 'sizes': (8, 4)}
    """
    if depth > _DEEPEST:
        raise ConfigError(f"{path[:200]} is nested too deeply.")
    match value:
        case ml_collections.FieldReference():
            return plain(_required(path, value.get), path, depth=depth)
        case ml_collections.ConfigDict():
            return _plain_mapping(_required(path, lambda: dict(value.items())), path, depth)
        case Mapping():
            return _plain_mapping(value, path, depth)
        case list() | tuple():
            items = [plain(item, f"{path}[{k}]", depth=depth + 1) for k, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        case np.generic() | np.ndarray() | jax.Array():
            return _plain_array(value)
        # Of a subclass, such as a member of an enumeration, its value.
        case bool() | None:
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case str():
            return "".join(value)
    return value


def _plain_mapping(values: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    for name in values:
        if not isinstance(name, str):
            raise ConfigError(f"{path} has the name {quoted(name)}, and names are text.")
    return {
        "".join(name): plain(value, f"{path}.{quoted(name)[1:-1]}", depth=depth + 1) for name, value in values.items()
    }


def _plain_array(value: Any) -> Any:
    """Its numbers, or itself where Python has no such numbers."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 and its like
            array = array.astype(np.float32)
        numbers = array.tolist()
    except Exception:  # a key of JAX, an array that is deleted or lies on another machine
        return value
    if array.dtype.kind not in "biufU" or not isinstance(numbers, bool | int | float | str | list):
        return value
    return _as_tuples(numbers)


def _as_tuples(numbers: Any) -> Any:
    return tuple(map(_as_tuples, numbers)) if isinstance(numbers, list) else numbers


def _required(path: str, read: Any) -> Any:
    try:
        return read()
    except ml_collections.config_dict.RequiredValueError as error:
        raise ConfigError(f"{path} has a value that is required and not set: {error}") from error

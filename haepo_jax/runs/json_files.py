"""JSON files, read in one typed way: one that is missing, damaged or of another type is one sentence that names it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, quoted

Shape = Any
"""What a value of JSON must be: a type or a union of types; `[shape]`, a list of such values; or `{name: shape}`, an
object that has these names and may have others."""

_MOST_LEVELS = 100
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def read_json(path: Path, shape: Shape = object) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      shape: what its value must be; see `Shape`.

    Raises:
      ConfigError: it is missing, no file, cannot be read, or is damaged.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path} is {'not a file' if path.exists() else 'missing'}.")
        value = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_parse_finite,
            parse_int=_parse_integer,
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError:
        raise ConfigError(f"{path} is damaged: it is nested too deep.") from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}.") from error
    wrong = "it is nested too deep" if _is_deep(value) else find_mismatch(value, shape, "")
    if wrong:
        raise ConfigError(f"{path} is damaged: {wrong}.")
    return value


def format_json(value: Any) -> str:
    """Returns a value as JSON text, in which numbers that are not finite are null, as JSON has no others."""
    return json.dumps(replace_non_finite(value), indent=1, allow_nan=False) + "\n"


def replace_non_finite(value: Any) -> Any:
    """Returns the same nested lists and dictionaries with None for every number that is infinite or NaN.

    Example:
      >>> replace_non_finite({"best": [1.0, float("inf")], "final": float("nan")})
      {'best': [1.0, None], 'final': None}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: replace_non_finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return value


def find_mismatch(value: Any, shape: Shape, place: str) -> str:
    """Says where a value is not of a shape; nothing where it is."""
    named = place or "it"
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{named} is {_describe_kind(value)}, not an object"
        missing = [name for name in shape if name not in value]
        if missing:
            return f"{named} has no {missing[0]}"
        inside = ((value[name], part, f"{place}.{name}" if place else name) for name, part in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return f"{named} is {_describe_kind(value)}, not a list"
        inside = ((item, shape[0], f"{place}[{number}]") for number, item in enumerate(value))
    else:
        fits = isinstance(value, shape) and (shape in (object, bool) or not isinstance(value, bool))
        return "" if fits else f"{named} is {_describe_kind(value)}, not {_describe_shape(shape)}"
    return next((wrong for item, part, where in inside if (wrong := find_mismatch(item, part, where))), "")


def _is_deep(value: Any) -> bool:
    """Says whether a value is nested deeper than what walks through it can follow; none of a run's files is."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        inside = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inside for item in items]
    return bool(level)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{quoted(text, 20)} is larger than any number of 64 bits")
    return number


def _parse_integer(text: str) -> int:
    _parse_finite(text)
    return int(text)


def _describe_kind(value: Any) -> str:
    return _KINDS.get(type(value), "null")


def _describe_shape(shape: Shape) -> str:
    kinds = getattr(shape, "__args__", (shape,))
    kinds = [kind for kind in kinds if not (kind is int and float in kinds)]
    return " or ".join(_KINDS.get(kind, "null") for kind in kinds)

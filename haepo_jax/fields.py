"""The kinds of settings: fields of a dataclass that know what they may be, and the way through them.

A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any


def number(
    default: float, *, low: float = -math.inf, above: float = -math.inf, high: float = math.inf, traced: bool = True
) -> Any:
    """A real number with low <= x <= high and x > above."""
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high, "traced": traced})


def optional_number(*, low: float = -math.inf, above: float = -math.inf, high: float = math.inf) -> Any:
    """As `number`, or unset, which is the default; whether it is set decides the program, its value does not."""
    return dataclasses.field(default=None, metadata={"low": low, "above": above, "high": high, "traced": True})


def count(default: int | None, *, low: int, high: int = 2**31 - 1, traced: bool = False) -> Any:
    """A whole number with low <= n <= high; int32 holds no more than the default `high`."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "traced": traced})


def choice(default: str, choices: tuple[str, ...]) -> Any:
    """One of these words."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Every setting as `(dotted name, value, field)`."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field

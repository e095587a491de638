"""The levels of a swept setting: its values, or ranges of them where they are many."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from haepo_jax.text import format_value

LABEL_DIGITS = 3
"""Significant digits of a value in a table or beside a figure."""
_MOST_VALUES = 12
"""A setting with more values than this is shown in bins."""
_MOST_BINS = 6


class Setting(NamedTuple):
    """A swept setting.

    Attributes:
      name: dotted.
      labels: its levels in order: its values, or ranges of them.
      level: `[points]` index of each point's level.
      binned: whether a level is a range of values.
    """

    name: str
    labels: tuple[str, ...]
    level: np.ndarray
    binned: bool


def make_setting(name: str, values: Sequence[Any], choice: Any) -> Setting:
    """Makes a setting with its levels.

    Args:
      name: dotted.
      values: `[points]`.
      choice: what they were chosen from: values, or a distribution, which is a mapping.
    """
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        level, uniques = find_distinct(values)
        return Setting(name, _format_labels(uniques), level, False)
    numbers = np.array(values, np.float64)
    different, level = np.unique(numbers, return_inverse=True)
    # So many that a cell of two settings holds two points on average.
    bins = min(max(math.isqrt(len(values) // 2), 2), _MOST_BINS)
    if len(different) <= (bins if isinstance(choice, Mapping) else _MOST_VALUES):
        # As they were given: of two that are equal as numbers, the first.
        given = [values[int(np.argmax(level == k))] for k in range(len(different))]
        labels = _format_labels(given)
        return Setting(
            name, labels if len(set(labels)) == len(labels) else _format_labels(given, digits=None), level, False
        )
    edges = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])
    _, level = np.unique(np.searchsorted(edges, numbers, side="right"), return_inverse=True)
    ranges = [numbers[level == k] for k in range(level.max() + 1)]
    return Setting(name, tuple(_format_range(inside.min(), inside.max()) for inside in ranges), level, True)


def _format_labels(values: Sequence[Any], digits: int | None = LABEL_DIGITS) -> tuple[str, ...]:
    return tuple(format_value(value, digits) for value in values)


def find_distinct[Item](items: Sequence[Item]) -> tuple[np.ndarray, list[Item]]:
    """Finds the distinct items, in the order in which they are met, and which of them each item is."""
    numbers: dict[str, int] = {}
    found: list[Item] = []
    indices = np.empty(len(items), int)
    for place, item in enumerate(items):
        key = json.dumps(item, sort_keys=True)
        if key not in numbers:
            numbers[key] = len(found)
            found.append(item)
        indices[place] = numbers[key]
    return indices, found


def _format_range(low: float, high: float) -> str:
    return _format_rounded(low) if low == high else f"{_format_rounded(low)} to {_format_rounded(high)}"


def _format_rounded(value: float) -> str:
    """A number in two digits, and few letters."""
    if value and abs(value) < 1e-3:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"

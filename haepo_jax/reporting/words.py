"""Numbers as the report words them, and the rule that turns comparisons into a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from haepo_jax.analysis.statistics import Estimate


def number(value: float, digits: int = 3) -> str:
    """A number in few digits."""
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    short = f"{value:.{digits}g}"
    return f"{value:,.0f}" if abs(float(short)) >= 1000 else short


def interval(estimate: Estimate, digits: int = 3) -> str:
    """`value [low, high]`."""
    value, low, high = (number(float(part), digits) for part in estimate)
    return f"{value} [{low}, {high}]"


def settings(chosen: Mapping[str, Any]) -> str:
    """Settings by the last part of their names."""
    return ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in chosen.items())


def verdict(paper: Sequence[bool], recommended: Sequence[bool]) -> str:
    """The verdict on a claim.

    Args:
      paper: whether it held in each comparison of the method as the paper has it (score `sum`).
      recommended: the same for the recommended score.

    Returns:
      `reproduced` if it held everywhere for the paper's own method, `not reproduced` if nowhere for either,
      else `mixed`.
    """
    if all(paper):
        return "reproduced"
    return "mixed" if any(paper) or any(recommended) else "not reproduced"

"""Numbers, intervals and comparisons as the pages word them."""

import numpy as np

from haepo_jax.analysis.few_seeds import are_enough, drop_unsupported
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison

TOO_FEW = "too few seeds for an interval"


def format_number(value: float, digits: int = 3, infinite: str = "infinite") -> str:
    """Formats a number in few digits; `infinite` is the word for one that is, "never" where it is a time."""
    if np.isnan(value):
        return "no value"
    if np.isinf(value):
        return infinite if value > 0 else f"-{infinite}"
    short = f"{value:.{digits}g}"
    return f"{value:,.0f}" if abs(float(short)) >= 1000 else short


def format_interval(estimate: Estimate, digits: int = 3, infinite: str = "infinite") -> str:
    """Formats an estimate as `value [low, high]`; the value alone, and why, where it has no interval."""
    cell = format_interval_cell(estimate, digits, infinite)
    return f"{cell} ({TOO_FEW})" if _lacks_interval(estimate) else cell


def format_interval_cell(estimate: Estimate, digits: int = 3, infinite: str = "infinite") -> str:
    """Formats an estimate for a table, whose note has the reason: see `explain_brackets`."""
    value, low, high = (format_number(float(part), digits, infinite) for part in estimate)
    if _lacks_interval(estimate) or (np.isinf(estimate.value) and value == low == high):
        return value
    return f"{value} [{low}, {high}]"


def _lacks_interval(estimate: Estimate) -> bool:
    return bool(np.isnan(estimate.low) and not np.isnan(estimate.value))


def format_comparison(made: Comparison) -> str:
    """Formats a difference or ratio with its interval, or why there is nothing to compare."""
    if made.nothing:
        return made.nothing
    return format_interval(made.estimate if made.seeds is None else drop_unsupported(made.estimate, made.seeds))


def explain_brackets(seeds: int, kind: str = "95% stratified bootstrap intervals") -> str:
    """Returns the small print on the brackets in a table."""
    return f"Brackets: {kind}." if are_enough(seeds) else f"No intervals: {seeds} seeds are too few for them."


def name_bands(seeds: int, kind: str = "95% bootstrap bands") -> str:
    """Writes the end of a caption, `with 95% bootstrap bands`."""
    return f"with {kind}" if are_enough(seeds) else f"without {kind}, as {seeds} seeds are too few for them"

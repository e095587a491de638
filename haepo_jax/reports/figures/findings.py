"""What a figure shows, in words, for those who do not see it: from the same data that it is drawn from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from haepo_jax.reports.figures.curves import Series, curves, panels, profiles
from haepo_jax.reports.figures.intervals import grouped_intervals, intervals
from haepo_jax.reports.figures.strip import strip
from haepo_jax.reports.formatting import format_number


def describe(draw: Callable[..., bytes], *data: Any) -> str:
    """Describes what a drawing of some data shows, without a full stop; nothing for a kind that has no words here.

    Args:
      draw: `curves`, `panels`, `profiles`, `intervals`, `grouped_intervals` or `strip`.
      *data: what it is given.
    """
    writer = _WRITERS.get(draw)
    return "" if writer is None else writer(*data)


def _say_ends(series: Sequence[Series]) -> str:
    """Names the last value of each curve."""
    return "; ".join(f"{curve.label} ends at {_say(_find_last(curve.centre))}" for curve in series)


def _say_panels(charts: Sequence[tuple[str, Sequence[Series]]]) -> str:
    return "; ".join(f"{title}: {_say_ends(chart)}" if title else _say_ends(chart) for title, chart in charts)


def _say_halves(series: Sequence[Series]) -> str:
    """Names the score that half of the runs of each are above."""
    said = []
    for curve in series:
        above = np.flatnonzero(np.asarray(curve.centre) >= 0.5)
        score = f"above {_say(curve.x[above[-1]])}" if above.size else "below all scores shown"
        said.append(f"half of the runs of {curve.label} are {score}")
    return "; ".join(said)


def _say_rows(rows: Sequence[tuple[str, float, float, float]]) -> str:
    return "; ".join(f"{label} {_say(value)}" for label, value, *_ in rows)


def _say_groups(groups: Sequence[str], arms: Sequence[str], values: np.ndarray, *_: np.ndarray) -> str:
    return "; ".join(
        f"{group}: " + ", ".join(f"{arm} {_say(value)}" for arm, value in zip(arms, row, strict=True))
        for group, row in zip(groups, np.asarray(values), strict=True)
    )


def _say_medians(rows: Sequence[tuple[str, Sequence[float] | np.ndarray]]) -> str:
    said = []
    for label, values in rows:
        known = np.sort(np.asarray(values, np.float64)[~np.isnan(values)])
        said.append(f"the median of {label} is {_say(known[(known.size - 1) // 2]) if known.size else _say(np.nan)}")
    return "; ".join(said)


def _find_last(values: np.ndarray) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known[-1]) if known.size else np.nan


def _say(value: float) -> str:
    return format_number(float(value), infinite="never")


_WRITERS: dict[Callable[..., bytes], Callable[..., str]] = {
    curves: _say_ends,
    panels: _say_panels,
    profiles: _say_halves,
    intervals: _say_rows,
    grouped_intervals: _say_groups,
    strip: _say_medians,
}

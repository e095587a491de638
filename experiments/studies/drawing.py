"""Figures of the studies, in which a method looks the same everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.reports import figures
from haepo_jax.reports.figures.style import PALETTE, Style
from haepo_jax.reports.page import Figure

FAMILIES: Mapping[str, Style] = dict(
    zip(
        (
            *("HAEPO", "PPO", "DPO", "REINFORCE", "GRPO", "HAEPO, mean", "HAEPO, sum", "RLOO", "UCB1"),
            *("Thompson sampling", "HAEPO, paper's form"),
        ),
        PALETTE,
        strict=False,
    )
) | {"HAEPO, log_ratio": PALETTE[0]}
"""Styles by the words that the labels of a method start with."""


def draw(kind: Callable[..., bytes], *data: Any, alt: str, caption: str, **options: Any) -> Figure:
    """Draws a figure for the page; arguments as of `figures.responsive`.

    Args:
      kind: the function that draws.
      *data: what it is given.
      alt: the name of the figure, which what it shows follows in words.
      caption: see `page.Figure`.
      **options: of `kind`.
    """
    shown = figures.describe(kind, *data)
    alt = f"{alt}: {shown}." if shown else alt
    return figures.responsive(kind, *data, alt=alt, caption=caption, families=FAMILIES, **options)


def make_curve(label: str, x: np.ndarray, values: np.ndarray) -> figures.Series:
    """Makes the curve of the interquartile mean of `[seeds, points]`, with its band."""
    return figures.Series(label, x, *estimate_interquartile_mean(values))


def make_row(label: str, values: np.ndarray) -> tuple[str, float, float, float]:
    """Makes the row of the interquartile mean of `[seeds]`, with its interval."""
    value, low, high = map(float, estimate_interquartile_mean(values))
    return label, value, low, high

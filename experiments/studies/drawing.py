"""Figures of the studies, in which a method looks the same everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

from haepo_jax.reports import figures
from haepo_jax.reports.figures.style import PALETTE, Style
from haepo_jax.reports.page import Figure

FAMILIES: Mapping[str, Style] = dict(
    zip(
        ("HAEPO", "PPO", "DPO", "REINFORCE", "GRPO", "HAEPO, mean", "HAEPO, sum", "RLOO", "UCB1", "Thompson sampling"),
        PALETTE,
        strict=False,
    )
) | {"HAEPO, log_ratio": PALETTE[0]}
"""Styles by the words that the labels of a method start with."""


def draw(kind: Callable[..., bytes], *data: Any, alt: str, caption: str, **options: Any) -> Figure:
    """Draws a figure for the page; arguments as of `figures.responsive`."""
    return figures.responsive(kind, *data, alt=alt, caption=caption, families=FAMILIES, **options)

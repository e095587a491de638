"""Draws the figures of the README from the entries of `docs/results.json`."""

import math
import re
from collections.abc import Mapping
from typing import Any

from experiments.published import blocks
from experiments.studies.drawing import FAMILIES
from haepo_jax.errors import ConfigError
from haepo_jax.reports import figures

Results = Mapping[str, Any]

FOLDER = "figures"
"""In `docs`."""
_ONE_SETTING = "one setting for all tasks"
_INTERVAL = re.compile(r"(\S+) \[(\S+), (\S+)\]")
_READINGS = re.compile(rb'data-readings="[^"]*"')


def draw_figures(results: Results) -> dict[str, bytes]:
    """Draws all figures, of which there are none where their numbers were never published.

    Args:
      results: what `docs/results.json` holds.

    Returns:
      The drawings by the names of their files.

    Raises:
      ConfigError: a number that they show is not there.
    """
    drawn = {"speed.svg": _draw_speed(results["race"], results["peers"])}
    return drawn | ({"comparison.svg": _draw_comparison(results["suite"])} if "suite" in results else {})


def says_the_same(drawing: bytes, other: bytes) -> bool:
    """Returns whether two drawings show the same, even if two versions of matplotlib drew them."""
    return _READINGS.findall(drawing) == _READINGS.findall(other) != []


def _draw_comparison(suite: Results) -> bytes:
    """Every method's score over all tasks."""
    table = suite["tables"][blocks.SUITE_METHODS]
    if _ONE_SETTING not in table["columns"]:
        raise ConfigError(f"The README draws {_ONE_SETTING!r}, which the table {table['caption']!r} does not hold.")
    place = table["columns"].index(_ONE_SETTING)
    rows = []
    for row in table["rows"]:
        found = _INTERVAL.fullmatch(row[place])
        value, low, high = map(float, found.groups()) if found else (math.nan,) * 3
        rows.append((row[0], value, low, high))
    return figures.intervals(
        rows,
        x_label="interquartile mean and 95% interval: 0 is random play, 1 the best known",
        reference=1.0,
        title=f"{table['caption']}, {_ONE_SETTING}",
        families=FAMILIES,
        width=figures.NARROW,
    )


def _draw_speed(race: Results, peers: Results) -> bytes:
    """How long each code takes until it plays well, and how fast it trains."""
    seeds = race["rows"][0]["seeds"]
    until = [
        (row["code"], math.nan, f"only {row['seeds_at_475']} of {row['seeds']} seeds get there")
        if row["seconds"] is None
        else (row["code"], row["seconds"], f"{row['seconds']:,} s")
        for row in race["rows"]
    ]
    rates = [
        (row["code"], row["million_env_steps_per_second"], f"{row['million_env_steps_per_second']:,} M")
        for row in peers["rows"]
    ]
    return figures.bars(
        [
            (f"Until all {seeds} seeds are at 475, compilation included", until),
            ("Environment steps a second, training", rates),
        ],
        title=f"CartPole-v1, {seeds} seeds, {race['devices']}",
        width=figures.NARROW,
    )

"""The score by the values of settings: of two at once, or of the one that varies."""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, estimate_interquartile_mean
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.reports import figures
from haepo_jax.reports.figures.heat_map import FAILED
from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Section
from haepo_jax.reports.sweep.analysis import Analysis
from haepo_jax.reports.sweep.bins import Setting
from haepo_jax.reports.sweep.chapter import Chapter, Drawing, make_interval_row
from haepo_jax.reports.sweep.folder import Sweep, is_grid
from haepo_jax.reports.sweep.ranking import find_cells, pool_members
from haepo_jax.text import format_settings

_FOREMOST = 4
"""The pairs of so many settings, at most 6, are in view; those of the others are shown on demand."""


def make_levels_chapter(analysis: Analysis) -> Chapter | None:
    """Makes the chapter of heat maps of pairs of settings, or of the intervals of the one that varies, if any does."""
    settings = [one.setting for one in analysis.sensitivities]
    if not settings:
        return None
    if len(settings) == 1:
        section = Section("values", "Every value", "How does the score depend on the setting?")
        return Chapter(section, (_draw_one_setting(analysis, settings[0]),))
    # Those of the settings that explain most come first.
    both = sorted(itertools.combinations(range(len(settings)), 2), key=lambda two: (two[1], two[0]))
    pairs = [_make_pair(analysis, settings[one], settings[other]) for one, other in both]
    findings = []
    if len(settings) > _FOREMOST:
        findings.append(
            f"In view are the pairs of the {_FOREMOST} settings that explain most, of {len(settings)}; those of the "
            "others follow on demand."
        )
    if len(pairs) > 1:
        findings.append("A colour means the same in all of these figures.")
    section = Section("pairs", "Pairs of settings", "How do settings act together?", findings)
    scores = np.concatenate([pair.score.ravel() for pair in pairs])
    limits = float(np.nanmin(scores)), float(np.nanmax(scores))
    drawings = (
        _draw_pair(analysis, pair, limits)._replace(folded=two[1] >= _FOREMOST)
        for two, pair in zip(both, pairs, strict=True)
    )
    return Chapter(section, tuple(drawings))


def _draw_one_setting(analysis: Analysis, setting: Setting) -> Drawing:
    sweep, scores = analysis.sweep, analysis.scores
    _, failed = pool_members(sweep, scores, setting)
    cell, rows = find_cells(sweep, setting), []
    for level, label in enumerate(setting.labels):
        inside = scores.finals[(cell == level) & scores.compared]
        band = estimate_interquartile_mean(inside) if inside.size else Estimate(*[np.array(np.nan)] * 3)
        rows.append(make_interval_row(f"{label} ({failed[level]:.0%} diverged)" if failed[level] > 0 else label, band))
    name = analysis.names[setting.name]
    return Drawing(
        functools.partial(figures.intervals, rows, x_label=analysis.final(), style=figures.NEUTRAL),
        alt=f"Final return for each {name}: " + ", ".join(f"{row[0]}: {format_number(row[1])}" for row in rows) + ".",
        caption=f"{name}: interquartile mean of the final returns of all members with such a value, and its 95% "
        f"bootstrap interval where these are {FEWEST_SEEDS} or more.{_describe_bins(analysis, setting)}",
    )


class _Pair(NamedTuple):
    """Two settings, and their pooled scores and failures, see `pool_members`."""

    y: Setting
    x: Setting
    score: np.ndarray
    failed: np.ndarray


def _make_pair(analysis: Analysis, one: Setting, other: Setting) -> _Pair:
    # The longer side goes down, as a page has more room there.
    y, x = (one, other) if len(one.labels) >= len(other.labels) else (other, one)
    return _Pair(y, x, *pool_members(analysis.sweep, analysis.scores, y, x))


def _draw_pair(analysis: Analysis, pair: _Pair, limits: tuple[float, float]) -> Drawing:
    y, x, score, failed = pair
    y_name, x_name = (analysis.names[setting.name] for setting in (y, x))
    row, column = np.unravel_index(int(np.nanargmax(score)), score.shape)
    notes = [_describe_bins(analysis, y, x)]
    if (failed > 0).any():
        notes.append(f" {FAILED}: members diverged, and the share of those that did.")
    if np.isnan(score).any():
        notes.append(f" Grey: {_explain_empty(analysis.sweep)}.")
    return Drawing(
        functools.partial(
            figures.heat_map,
            score,
            failed,
            x_names=x.labels,
            y_names=y.labels,
            x_label=x_name,
            y_label=y_name,
            value_label=analysis.final(),
            failed_label="members that diverged",
            limits=limits,
        ),
        alt=f"Final return by {y_name} and {x_name}; the highest, {format_number(score[row, column])}, is at "
        f"{format_settings({y_name: y.labels[row], x_name: x.labels[column]})}.",
        caption=f"{y_name} and {x_name}: the interquartile mean of the final returns of all members with both values"
        + (", whatever their other settings are." if len(analysis.sweep.varied) > 2 else ".")
        + "".join(notes),
    )


def _explain_empty(sweep: Sweep) -> str:
    reasons = {
        "no member has come so far": not sweep.done.all(),
        "no combination is there": not is_grid(sweep),
    }
    return ", or ".join(reason for reason, holds in reasons.items() if holds)


def _describe_bins(analysis: Analysis, *settings: Setting) -> str:
    binned = [analysis.names[setting.name] for setting in settings if setting.binned]
    return f" Ranges of {' and of '.join(binned)} hold about as many combinations each." if binned else ""

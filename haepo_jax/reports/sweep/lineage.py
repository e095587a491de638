"""Population-based training: which settings the best lineages had, and who copied whom."""

import functools

import numpy as np

from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_interval, format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import Analysis, format_count
from haepo_jax.reports.sweep.chapter import Chapter, Drawing
from haepo_jax.runs.lineage import Lineage
from haepo_jax.text import format_setting, format_value

_MOST_SETTINGS = 4
"""That have a figure."""
_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""


def make_lineage_chapter(analysis: Analysis, lineage: Lineage) -> Chapter:
    """Makes the chapter of the best members, their settings over time, and their ancestors."""
    best = find_best_members(analysis, lineage)
    first = max(best.tolist(), key=lambda member: analysis.scores.finals[member])
    path = lineage.trace(first)
    findings = [describe_lineages(analysis, lineage), _describe_ancestors(lineage, first, path)]
    drawings = tuple(
        _draw_setting(lineage, name, analysis.names[name], first, path)
        for name in [name for name in lineage.settings if np.nanstd(lineage.settings[name]) > 0][:_MOST_SETTINGS]
    )
    section = Section(
        slug="lineage",
        title="Populations",
        question="How good are the best members, which settings did they come to, and from whom do they descend?",
        findings=findings,
        figures=(),
        tables=(_make_best_table(analysis, lineage, best), _make_copies_table(analysis, lineage, first, path)),
    )
    return Chapter(section, drawings)


def find_best_members(analysis: Analysis, lineage: Lineage) -> np.ndarray:
    """Finds the member with the highest final return of each population of which one is compared."""
    finals = np.where(analysis.scores.compared, analysis.scores.finals, -np.inf)
    members = [np.flatnonzero(lineage.population == number) for number in range(lineage.population.max() + 1)]
    found = [int(own[np.argmax(finals[own])]) for own in members]
    return np.array([member for member in found if np.isfinite(finals[member])], int)


def describe_lineages(analysis: Analysis, lineage: Lineage) -> str:
    """Says how high the best members of the populations came, and the settings of the best of all."""
    best, finals = find_best_members(analysis, lineage), analysis.scores.finals
    first = int(best[np.argmax(finals[best])])
    populations = format_count(int(lineage.population.max()) + 1, "population")
    text = (
        f"{populations.capitalize()} of {format_count(int((lineage.population == 0).sum()), 'member')}: the highest "
        f"final return is {format_number(finals[first])}, that of member {first}, which came to "
        f"{_format_settings(analysis, lineage, first)}."
    )
    if len(best) > 1:
        estimate = estimate_interquartile_mean(finals[best])
        text += f" The best members of all populations have {format_interval(estimate)}, their interquartile mean."
    return text


def _describe_ancestors(lineage: Lineage, member: int, path: np.ndarray) -> str:
    copied = int((np.diff(path) != 0).sum())
    text = f"In all, members copied another one {format_count(int(lineage.copies.sum()), 'time')}. "
    if not copied:
        return f"{text}The policy of member {member} is its own from the first update on."
    return (
        f"{text}The policy of member {member} descends from member {path[0]}, over {format_count(copied, 'copy')}."
    ).replace("copys", "copies")


def _format_settings(analysis: Analysis, lineage: Lineage, member: int) -> str:
    last = lineage.last_settings(member)
    return ", ".join(format_setting(analysis.names[name], value, 3) for name, value in last.items())


def _make_best_table(analysis: Analysis, lineage: Lineage, best: np.ndarray) -> Table:
    finals = analysis.scores.finals
    order = best[np.argsort(-finals[best], kind="stable")].tolist()
    rows = []
    for member in order:
        own = np.flatnonzero(lineage.population == lineage.population[member])
        last = lineage.last_settings(member)
        rows.append(
            (
                str(lineage.population[member]),
                str(member),
                format_number(finals[member]),
                format_number(float(np.nanmedian(finals[own]))),
                str(int(lineage.copies[own].sum())),
                *(format_value(value, 3) for value in last.values()),
            )
        )
    return Table(
        caption="The best member of each population, with the settings that it ended with",
        columns=(
            *("population", "best member", "its final return", "median member", "copies"),
            *(analysis.names[name] for name in lineage.settings),
        ),
        rows=rows,
        note=f"Final return: {analysis.final()}.",
        folded=len(rows) > _FOLDED_FROM,
    )


def _make_copies_table(analysis: Analysis, lineage: Lineage, member: int, path: np.ndarray) -> Table:
    """Every exchange on the way to the best member."""
    rows = []
    for update in np.flatnonzero(np.diff(path) != 0).tolist():
        parent, child = int(path[update]), int(path[update + 1])
        before, after = (
            ", ".join(
                format_setting(analysis.names[name], values[who, at], 3) for name, values in lineage.settings.items()
            )
            for who, at in ((parent, update), (child, update + 1))
        )
        rows.append((str(update + 1), str(parent), str(child), before, after))
    return Table(
        caption=f"The ancestors of member {member}",
        columns=("after updates", "copied", "by member", "settings copied", "settings after"),
        rows=rows,
        folded=len(rows) > _FOLDED_FROM,
    )


def _draw_setting(lineage: Lineage, name: str, label: str, member: int, path: np.ndarray) -> Drawing:
    own = np.flatnonzero(lineage.population == lineage.population[member])
    values, x = lineage.settings[name][own, : len(path)], np.arange(1, len(path) + 1)
    series = figures.Series(f"lineage of member {member}", x, lineage.follow(name, path), runs=values)
    return Drawing(
        functools.partial(
            figures.curves,
            [series],
            x_label="updates",
            y_label=label,
            y_log=bool(np.nanmin(values) > 0),
        ),
        alt=f"{label} against updates: the lineage of member {member} ends at {format_value(series.centre[-1], 3)}.",
        caption=f"{label} of the policy that member {member} ends with, at each update that of the member which held "
        "the policy then; faintly, all members of its population.",
    )

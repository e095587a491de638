"""The settings with the highest final return, what ties with them, and the default."""

import functools

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS
from haepo_jax.analysis.verdicts import UNDECIDED
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import Analysis, format_count
from haepo_jax.reports.sweep.chapter import Chapter, Drawing
from haepo_jax.reports.sweep.curves import collect_curves, estimate_known
from haepo_jax.reports.sweep.folder import counts_steps, find_default_point
from haepo_jax.reports.sweep.ties import BEST, TIES

TOP = 10


def make_best_chapter(analysis: Analysis) -> Chapter:
    """Makes the chapter of the settings with the highest final return, their ties, and the default."""
    sweep, ranking = analysis.sweep, analysis.ranking
    best, default = int(ranking.order[0]), find_default_point(sweep)
    findings = [describe_highest(analysis), *_name_ties(analysis)]
    if default is None:
        findings.append("The sweep does not hold the default, which is the setting of the base configuration itself.")
    elif not ranking.seeds[default]:
        findings.append("The default has not come so far yet.")
    elif default != best:
        place = int(np.flatnonzero(ranking.order == default)[0]) + 1
        findings.append(
            f"The default, {analysis.settings(default)}, is number {place:,} of {len(ranking.order):,} with "
            f"{analysis.score(default)}: {analysis.beside[default]}."
        )
    findings.append(
        "The highest of many settings looks better than it is on the seeds that it was chosen by: run it again with "
        "other seeds before you rely on its score."
    )
    exactly = Table(
        caption="The setting with the highest final return, exactly",
        columns=("setting", "value"),
        rows=[(name, str(value)) for name, value in sweep.points[best].items()],
        folded=True,
    )
    tables = (_make_top_table(analysis, default), exactly)
    question = "Which settings have the highest final return, and which tie with them?"
    section = Section("best", "The settings with the highest final return", question, findings, (), tables)
    return Chapter(section, (_draw_curves(analysis, best, default),))


def describe_highest(analysis: Analysis) -> str:
    """Names the setting with the highest score, and whether it may be called the best."""
    sweep, ranking = analysis.sweep, analysis.ranking
    first, ranked = int(ranking.order[0]), len(ranking.order)
    seeds = format_count(int(ranking.seeds[first]), "seed")
    text = (
        f"Of {format_count(ranked, 'combination')} of settings, {analysis.settings(first)} has the highest final "
        "return, "
        f"{analysis.score(first)}, the interquartile mean over {seeds}"
    )
    text += "; it is the default. " if find_default_point(sweep) == first else ". "
    if ranked == 1:
        return text.strip()
    if analysis.beside[first] != BEST:
        return f"{text}No setting is called the best: fewer than {FEWEST_SEEDS} seeds decide nothing."
    words = list(analysis.beside.values())
    ties, undecided = words.count(TIES), words.count(UNDECIDED)
    if ties:
        text += f"{format_count(ties, 'other')} {'ties' if ties == 1 else 'tie'} with it: no difference is shown. "
    elif not undecided:
        text += "No other ties with it. "
    if undecided:
        text += f"{format_count(undecided, 'other')} with fewer than {FEWEST_SEEDS} seeds cannot be compared with it. "
    return text.strip()


def _name_ties(analysis: Analysis) -> list[str]:
    """The settings that tie with the best, a line for the first ones."""
    ties = [point for point, word in analysis.beside.items() if word == TIES]
    if not ties:
        return []
    named = "; ".join(f"{analysis.settings(point)} with {analysis.score_cell(point)}" for point in ties[:TOP])
    more = f"; and {len(ties) - TOP:,} more" if len(ties) > TOP else ""
    return [f"It is not shown to be better than {named}{more}."]


def _make_top_table(analysis: Analysis, default: int | None) -> Table:
    sweep, ranking = analysis.sweep, analysis.ranking
    order = ranking.order.tolist()
    shown = list(enumerate(order[:TOP], start=1))
    if default is not None and default in order[TOP:]:
        shown.append((order.index(default) + 1, default))
    rows = [
        (
            str(place),
            *(analysis.value(setting, point) for setting in sweep.settings),
            str(ranking.seeds[point]),
            analysis.score_cell(point),
            format_number(ranking.median[point]),
            format_number(ranking.worst[point]),
            f"{ranking.diverged[point] / ranking.seeds[point]:.0%}",
            analysis.beside[point] + (", the default" if point == default else ""),
        )
        for place, point in shown
    ]
    heading = ("seeds", "final return", "median seed", "worst seed", "diverged", "beside the first")
    decided = analysis.beside[order[0]] == BEST
    return Table(
        caption=f"The {min(TOP, len(order))} of {format_count(len(order), 'combination')} with the highest final "
        "return",
        columns=("rank", *(analysis.names[setting.name] for setting in sweep.settings), *heading),
        rows=rows,
        note=f"Final return: {analysis.final()}; interquartile mean over seeds with its 95% bootstrap interval, where "
        f"there are {FEWEST_SEEDS} seeds or more. "
        + (
            "✓ marks the best. Another ties with it where the interval of their difference holds 0."
            if decided
            else "None is marked as the best, as the first has too few seeds."
        ),
        marked=[0] if decided else [],
    )


def _draw_curves(analysis: Analysis, best: int, default: int | None) -> Drawing:
    sweep, label = analysis.sweep, analysis.beside[best].removeprefix("the ")
    wanted = {label: best}
    if default == best:
        wanted = {f"{label}, the default": best}
        about = f"The {label} setting is the default: {analysis.settings(best)}."
    elif default is not None and analysis.ranking.seeds[default]:
        wanted["default"] = default
        about = f"The {label} setting, {analysis.settings(best)}, and the default, {analysis.settings(default)}."
    else:
        why = "The sweep does not hold the default." if default is None else "The default has not come so far yet."
        about = f"The {label} setting, {analysis.settings(best)}. {why}"
    series, by_steps = [], counts_steps(sweep)
    for label, point in wanted.items():
        x, values = collect_curves(sweep, analysis.scores, point, by_steps=by_steps)
        series.append(figures.Series(label, x, *estimate_known(values)))
    return Drawing(
        functools.partial(
            figures.curves,
            series,
            x_label="environment steps" if by_steps else "updates",
            y_label="mean return of an update's episodes",
        ),
        alt="Return of "
        + " and of ".join(wanted)
        + f" against {'environment steps' if by_steps else 'updates'}: "
        + "; ".join(f"{curve.label} ends at {format_number(float(curve.centre[-1]))}" for curve in series)
        + ".",
        caption=f"{about} Interquartile mean over seeds, at each point on its own, with its 95% bootstrap band where "
        f"there are {FEWEST_SEEDS} seeds or more; a member that has diverged counts as the worst final return from "
        "there on.",
    )

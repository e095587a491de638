"""The best settings and the default: their ranks, and their learning curves."""

import functools

import numpy as np

from haepo_jax.analysis.statistics import interquartile_mean_band
from haepo_jax.reporting import figures
from haepo_jax.reporting.page import Section, Table
from haepo_jax.reporting.words import number
from haepo_jax.sweep_report.chapter import Chapter, Drawing
from haepo_jax.sweep_report.curves import learning_curve
from haepo_jax.sweep_report.folder import counts_steps, default_point
from haepo_jax.sweep_report.numbers import Numbers, count

TOP = 10


def best_chapter(numbers: Numbers) -> Chapter:
    """The best settings, and what became of the default."""
    sweep, standings = numbers.sweep, numbers.standings
    best, default = int(standings.ranking[0]), default_point(sweep)
    findings = [f"Best is {numbers.settings(best)}, with a final return of {numbers.score(best)}."]
    if default is None:
        findings.append("The sweep does not hold the default, which is the setting of the base configuration itself.")
    elif default == best:
        findings.append("That is the default.")
    elif not standings.seeds[default]:
        findings.append("The default has not come so far yet.")
    else:
        place = int(np.flatnonzero(standings.ranking == default)[0]) + 1
        findings.append(
            f"The default, {numbers.settings(default)}, is number {place:,} of {len(standings.ranking):,} with "
            f"{numbers.score(default)}."
        )
    findings.append(
        "The best of many settings looks better than it is on the seeds that it was chosen by: run it again with "
        "other seeds before you rely on its score."
    )
    exactly = Table(
        caption="The best setting, exactly",
        columns=("setting", "value"),
        rows=[(name, str(value)) for name, value in sweep.points[best].items()],
        folded=True,
    )
    tables = (_top_table(numbers, default), exactly)
    section = Section("best", "The best settings", "Which settings are best?", findings, (), tables)
    return Chapter(section, (_curves(numbers, best, default),))


def _top_table(numbers: Numbers, default: int | None) -> Table:
    sweep, standings = numbers.sweep, numbers.standings
    ranking = standings.ranking.tolist()
    shown = list(enumerate(ranking[:TOP], start=1))
    if default is not None and default in ranking[TOP:]:
        shown.append((ranking.index(default) + 1, default))
    rows = [
        (
            str(place),
            *(numbers.value(setting, point) for setting in sweep.settings),
            str(standings.seeds[point]),
            numbers.score(point),
            number(standings.median[point]),
            number(standings.worst[point]),
            f"{standings.diverged[point] / standings.seeds[point]:.0%}",
        )
        for place, point in shown
    ]
    heading = ("seeds", "final return", "median seed", "worst seed", "diverged")
    return Table(
        caption=f"The best {min(TOP, len(ranking))} of {count(len(ranking), 'combination')}, by final return",
        columns=("rank", *(numbers.names[setting.name] for setting in sweep.settings), *heading),
        rows=rows,
        note=f"Final return: {numbers.final()}; interquartile mean over seeds with its 95% bootstrap interval."
        + (" ✓ marks the default." if default in (point for _, point in shown) else ""),
        marked=[row for row, (_, point) in enumerate(shown) if point == default],
    )


def _curves(numbers: Numbers, best: int, default: int | None) -> Drawing:
    sweep = numbers.sweep
    wanted = {"best": best}
    if default == best:
        wanted = {"best, the default": best}
        about = f"The best setting is the default: {numbers.settings(best)}."
    elif default is not None and numbers.standings.seeds[default]:
        wanted["default"] = default
        about = f"The best setting, {numbers.settings(best)}, and the default, {numbers.settings(default)}."
    else:
        why = "The sweep does not hold the default." if default is None else "The default has not come so far yet."
        about = f"The best setting, {numbers.settings(best)}. {why}"
    series = []
    for label, point in wanted.items():
        x, values = learning_curve(sweep, numbers.scores, point)
        series.append(figures.Series(label, x, *interquartile_mean_band(values)))
    by_steps = counts_steps(sweep)
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
        + "; ".join(f"{curve.label} ends at {number(float(curve.centre[-1]))}" for curve in series)
        + ".",
        caption=f"{about} Interquartile mean over seeds with its 95% bootstrap band, at each point on its own; a "
        "member that has diverged counts as the worst final return from there on.",
    )

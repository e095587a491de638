"""The chapter on importance: how much each setting explains."""

import functools

import numpy as np

from haepo_jax.reports import figures
from haepo_jax.reports.formatting import TOO_FEW
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import Analysis
from haepo_jax.reports.sweep.chapter import Chapter, Drawing, make_interval_row
from haepo_jax.reports.sweep.folder import is_grid
from haepo_jax.reports.sweep.sensitivity import Sensitivity, draws_seeds


def make_importance_chapter(analysis: Analysis) -> Chapter | None:
    """Makes the chapter of how much each setting explains; None where that is not known."""
    found = analysis.sensitivities
    # Where each value was tried in one combination only, it explains all there is.
    if not any(one.by_chance < 1 for one in found):
        return None
    first = found[0]
    if np.isnan(first.share.value):
        findings = ["The scores do not differ yet, so that there is nothing to explain."]
    else:
        findings = [
            f"{analysis.names[first.setting.name]} alone explains {_format_share(first)} of the variance of the "
            "combinations' "
            f"scores{f' ({TOO_FEW})' if _lacks_interval(first) else ''}, the largest share of any setting."
        ]
    grid = is_grid(analysis.sweep)
    weak = [analysis.names[one.setting.name] for one in found if one.share.value <= one.by_chance]
    if weak and not grid:
        findings.append(f"No more than a setting without any effect would explain: {', '.join(weak)}.")
    table = Table(
        caption="What each swept setting explains alone of the variance of the combinations' scores",
        columns=("setting", "values", "explained share", *(() if grid else ("by chance",)), "highest on average"),
        rows=[
            (
                analysis.names[one.setting.name],
                f"{len(one.setting.labels)}{' bins' if one.setting.binned else ''}",
                "–" if np.isnan(one.share.value) else _format_share(one),
                *(() if grid else (f"{one.by_chance:.0%}",)),
                one.highest,
            )
            for one in found
        ],
        note="The correlation ratio (eta squared) of the scores over the values of the setting, or over bins with as "
        "many combinations each. What settings do together is in no one's share."
        + ("" if grid else " By chance: what a setting without any effect explains on average."),
    )
    resamples = (
        "95% bootstrap intervals over the seeds of each combination"
        if draws_seeds(analysis.sweep, analysis.ranking)
        else "95% bootstrap intervals over combinations, which lie rather high where these are few"
    )
    rows = [make_interval_row(analysis.names[one.setting.name], one.share) for one in found]
    drawing = Drawing(
        functools.partial(
            figures.intervals,
            rows,
            x_label="share of the variance of scores explained",
            style=figures.NEUTRAL,
        ),
        alt="Explained share of each setting, from the most to the least: "
        + ", ".join(f"{name} {value:.2f}" for name, value, *_ in rows)
        + ".",
        caption="How much each swept setting explains alone, "
        + (f"without intervals: {TOO_FEW}." if _lacks_interval(first) else f"with {resamples}."),
    )
    section = Section("sensitivity", "What matters", "Which settings decide the score?", findings, (), (table,))
    return Chapter(section, (drawing,))


def _format_share(one: Sensitivity) -> str:
    value = f"{one.share.value:.0%}"
    return value if _lacks_interval(one) else f"{value} [{one.share.low:.0%}, {one.share.high:.0%}]"


def _lacks_interval(one: Sensitivity) -> bool:
    return bool(np.isnan(one.share.low) and not np.isnan(one.share.value))

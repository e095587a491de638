"""How far the sweep is: the first chapter."""

from typing import NamedTuple

import numpy as np

from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import Analysis, format_count
from haepo_jax.reports.sweep.chapter import Chapter
from haepo_jax.reports.sweep.folder import Sweep

_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""


class Progress(NamedTuple):
    """How far a group is: members of each kind, and the fewest and the most updates of those that have begun."""

    group: str
    members: int
    begun: int
    done: int
    diverged: int
    fewest: int
    most: int


def measure_progress(sweep: Sweep) -> tuple[Progress, ...]:
    """Measures how far each group is."""
    fewest, most = np.full(len(sweep.groups), sweep.returns.shape[1]), np.zeros(len(sweep.groups), int)
    # A member that stopped does not show how far its group is, as long as another one runs or went further.
    np.maximum.at(most, sweep.group, sweep.rows)
    going = sweep.begun & ~sweep.done
    np.minimum.at(fewest, sweep.group[going], sweep.rows[going])
    kinds = (np.ones(len(sweep.point), bool), sweep.begun, sweep.begun & sweep.done, sweep.diverged)
    of_kind = [np.bincount(sweep.group[members], minlength=len(sweep.groups)) for members in kinds]
    return tuple(
        Progress(name, *map(int, (*numbers, min(low, high), high)))
        for name, *numbers, low, high in zip(sweep.groups, *of_kind, fewest, most, strict=True)
    )


def make_progress_chapter(analysis: Analysis) -> Chapter:
    """Makes the chapter of members that have begun, are done or have diverged."""
    sweep = analysis.sweep
    members, begun, done = len(sweep.point), int(sweep.begun.sum()), int((sweep.begun & sweep.done).sum())
    seeds = np.bincount(sweep.point)
    each = f", {format_count(int(seeds[0]), 'seed')} each" if (seeds == seeds[0]).all() else ""
    state = f"All {format_count(members, 'member')} are done."
    if done < members:
        state = f"Of {format_count(members, 'member')} {begun:,} have begun and {done:,} are done."
    points, settings = format_count(len(sweep.points), "combination"), format_count(len(sweep.settings), "setting")
    findings = [f"{state} They are {points} of {settings}{each}."]
    if done < members:
        findings.append(_describe_comparison(analysis))
    findings.append(_describe_diverged(analysis))
    rows = [
        (
            group.group,
            *(f"{number_of:,}" for number_of in (group.members, group.begun, group.done, group.diverged)),
            f"{group.most:,}" if group.fewest == group.most else f"{group.fewest:,} to {group.most:,}",
        )
        for group in measure_progress(sweep)
    ]
    table = Table(
        caption="Members of each group",
        columns=("group", "members", "begun", "done", "diverged", "updates done"),
        rows=rows,
        note="A group is one compiled program: its members differ in numbers alone. Done are members that have made "
        "all their updates, have used up their environment steps, or have diverged.",
        folded=len(rows) > _FOLDED_FROM,
    )
    return Chapter(
        Section("progress", "How far the sweep is", "Who has begun, and who is done?", findings, (), (table,))
    )


def _describe_comparison(analysis: Analysis) -> str:
    sweep, scores = analysis.sweep, analysis.scores
    text = f"The sweep is not complete. Members are compared after the same number of updates, {scores.updates:,}"
    if late := int((sweep.begun & ~scores.compared).sum()):
        begun = format_count(late, "member")
        text += f"; combinations that have not come so far, with {begun} that have begun, are left out"
    return f"{text}. What members did after these does not count here."


def _describe_diverged(analysis: Analysis) -> str:
    gone, worst = int(analysis.sweep.diverged.sum()), format_number(analysis.scores.worst)
    if not gone:
        return "No member has diverged."
    text = f"{format_count(gone, 'member')} diverged. "
    if counted := int(analysis.scores.diverged.sum()):
        later = f" Of them {counted:,} had by the update of the comparison." if counted < gone else ""
        return (
            f"{text}In every number of this page a member that diverged has the worst final return that any member "
            f"has, {worst}, so that a setting where few survive does not look good.{later}"
        )
    return f"{text}None had by the update of the comparison."

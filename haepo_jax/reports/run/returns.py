"""The returns of a run: their curve, and what each member ended with."""

import functools

import numpy as np

from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_interval, format_number, name_bands
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.analysis import format_count
from haepo_jax.reports.sweep.chapter import Chapter, Drawing
from haepo_jax.reports.sweep.curves import collect_curves, collect_metric, estimate_known, find_places
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.ranking import Scores
from haepo_jax.runs.summary import FINAL_UPDATES

_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""


def describe_final(sweep: Sweep, scores: Scores) -> str:
    """Says with which return a run ends, over how many seeds, and how many of these diverged."""
    finals = scores.finals[scores.compared]
    seeds, gone = format_count(finals.size, "seed"), int(scores.diverged.sum())
    text = (
        f"The final return is {format_interval(estimate_interquartile_mean(finals))}, the interquartile mean over "
        f"{seeds}; the worst has {format_number(float(finals.min()))}, the best {format_number(float(finals.max()))}."
    )
    if gone:
        text += f" {format_count(gone, 'member')} diverged, counted as the worst final return."
    if not sweep.done.all():
        text += f" The run is not complete: this is after {format_count(scores.updates, 'update')}."
    return text


def make_returns_chapter(sweep: Sweep, scores: Scores, evaluated: np.ndarray | None) -> Chapter:
    """Makes the chapter of the returns.

    Args:
      sweep: the records of the run.
      scores: of its members.
      evaluated: `[members, updates]` returns of evaluations in training, NaN between them; None where there are none.
    """
    members = np.flatnonzero(scores.compared)
    x, values = collect_curves(sweep, scores, 0, by_steps=True)
    curves = [figures.Series("episodes of training", x, *estimate_known(values), values)]
    if evaluated is not None:
        places = find_places(sweep, scores, members, by_steps=True)
        played = estimate_known(collect_metric(places, evaluated[members]))
        curves.append(figures.Series("greedy evaluation", x, *played))
    known = curves[0].centre[~np.isnan(curves[0].centre)]
    ends = "; ".join(f"{curve.label} end at {format_number(float(curve.centre[-1]))}" for curve in curves)
    learning = Drawing(
        functools.partial(
            figures.curves, curves, x_label="environment steps", y_label="mean return of an update's episodes"
        ),
        alt=f"Return against environment steps, from {format_number(float(known[0]))} at first: {ends}.",
        caption="Interquartile mean over seeds, at each point on its own, "
        f"{name_bands(len(members))}; each seed faintly. A member that has diverged counts as the worst final return "
        "from there on.",
    )
    finals = np.where(scores.diverged, np.nan, scores.finals)[members]
    alive = finals[~np.isnan(finals)]
    spread = Drawing(
        functools.partial(figures.strip, [("seeds", finals)], x_label=f"final return ({_name_final(scores)})"),
        alt=f"The final return of each of {format_count(len(members), 'seed')}: "
        + (
            f"from {format_number(float(alive.min()))} to {format_number(float(alive.max()))}, median "
            f"{format_number(float(np.median(alive)))}."
            if alive.size
            else "all diverged."
        ),
        caption=f"The final return of each seed, {_name_final(scores)}, and their median.",
    )
    section = Section(
        "returns",
        "Returns",
        "How far does it come, and how much do seeds differ?",
        [describe_final(sweep, scores)],
        (),
        (_make_members_table(sweep, scores),),
    )
    return Chapter(section, (learning, spread))


def _name_final(scores: Scores) -> str:
    return f"mean of the last {format_count(min(FINAL_UPDATES, scores.updates), 'update')}"


def _make_members_table(sweep: Sweep, scores: Scores) -> Table:
    returns = np.where(np.isfinite(sweep.returns), sweep.returns, -np.inf)
    rows = []
    for member in range(len(sweep.point)):
        done = int(sweep.rows[member])
        best = float(returns[member, :done].max(initial=-np.inf))
        final = np.nan if sweep.diverged[member] else scores.finals[member]
        rows.append(
            (
                str(member),
                str(sweep.seed[member]),
                format_number(float(final)),
                format_number(best) if np.isfinite(best) else "no value",
                f"{int(sweep.env_steps[member].max()):,}",
                _describe_state(sweep, member),
            )
        )
    return Table(
        caption="Each member",
        columns=("member", "seed", "final return", "best update", "environment steps", "state"),
        rows=rows,
        note=f"Final return: {_name_final(scores)}. Best update: the largest mean return of an update's episodes, "
        "which is biased upward.",
        folded=len(rows) > _FOLDED_FROM,
    )


def _describe_state(sweep: Sweep, member: int) -> str:
    if sweep.diverged[member]:
        return f"diverged in update {int(sweep.rows[member])}"
    return "done" if sweep.done[member] else f"after {format_count(int(sweep.rows[member]), 'update')}"

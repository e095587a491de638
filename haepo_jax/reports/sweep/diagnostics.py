"""The chapter on how members learned: the metrics that their method writes, beside the return."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_interval_cell, format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.chapter import Chapter, Drawing
from haepo_jax.reports.sweep.curves import collect_metric, estimate_known, find_places
from haepo_jax.reports.sweep.folder import Sweep
from haepo_jax.reports.sweep.ranking import Scores
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.metrics.reader import list_metrics, read_rows

_NAMES: Mapping[str, Mapping[str, str]] = {
    "weights": {
        "effective_sample_size": "effective sample size",
        "max_weight": "largest weight",
        "weights_kl": "KL of the weights (nats)",
        "weights_entropy": "entropy of the weights (nats)",
        "target_effective_sample_size": "effective sample size of the target",
        "target_temperature": "temperature of the target",
        "entropy_weight": "weight of the entropy",
        "kl_weight": "weight of the KL",
    },
    "policy and gradient": {
        "policy_entropy": "policy entropy (nats a step)",
        "grad_norm": "gradient norm, before clipping",
        "loss": "loss",
        "approx_kl": "KL from the behaviour policy (nats a step)",
        "clip_fraction": "share of steps held by a bound",
        "mean_ratio": "ratio to the behaviour policy",
        "reference_kl": "KL to the reference (nats a step)",
        "policy_loss": "policy loss",
        "value_loss": "value loss",
    },
}
"""By group, the metrics that docs/glossary.md explains, as figures call them; others have their own names."""
_OTHERS = "other metrics"
_RETURNS = {"episode_return", "eval_return", "pbt_parent", "pbt_score"}
"""Drawn in chapters of their own."""
_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""
_RESAMPLES = 500
"""Of the bands, on which no verdict rests."""


class Arm(NamedTuple):
    """Members of one setting whose metrics are drawn as one curve.

    Attributes:
      label: its name in figures and tables.
      sweep: the records that they are of.
      scores: of all members there.
      point: index of their setting, which is compared.
      metrics: `[members, updates]` of all members by name, as of `read_metrics`.
    """

    label: str
    sweep: Sweep
    scores: Scores
    point: int
    metrics: Mapping[str, np.ndarray]


class _Curve(NamedTuple):
    x: np.ndarray
    estimate: Estimate


def read_metrics(workdir: StrPath) -> dict[str, np.ndarray]:
    """Reads all metrics of a run but its returns, each `[members, updates]` with NaN where there is no value.

    Raises:
      ConfigError: as of `haepo_jax.runs.metrics.reader.read_rows`.
    """
    names = [name for name in list_metrics(workdir) if name not in _RETURNS]
    rows = read_rows(workdir, names)
    return {name: rows.by_update(name, np.float32(np.nan)) for name in names}


def make_diagnostics_chapter(arms: Sequence[Arm], *, by_steps: bool) -> Chapter | None:
    """Makes the chapter of the metrics of some arms; None where they have none with a value.

    Args:
      arms: whose curves are drawn on the same axes.
      by_steps: whether the axis is of environment steps; of updates otherwise.
    """
    found = {arm.label: _compute_curves(arm, by_steps) for arm in arms}
    names = list(dict.fromkeys(name for curves in found.values() for name in curves))
    if not names:
        return None
    groups = {group: [name for name in titles if name in names] for group, titles in _NAMES.items()}
    known = {name for members in groups.values() for name in members}
    groups[_OTHERS] = [name for name in names if name not in known]
    ordered = [name for members in groups.values() for name in members]
    x_label = "environment steps" if by_steps else "updates"
    drawings = tuple(
        drawing
        for group, members in groups.items()
        if (drawing := _draw_group(group, members, found, x_label)) is not None
    )
    several = len(arms) > 1
    rows = [
        (
            *((f"{_title(name)}, {label}",) if several else (_title(name),)),
            *_summarise(curves[name].estimate),
        )
        for name in ordered
        for label, curves in found.items()
        if name in curves
    ]
    table = Table(
        caption="The metrics at first, at the end, and between",
        columns=("metric", "at first", "lowest", "highest", "at the end"),
        rows=rows,
        note=f"Interquartile means over seeds; brackets are 95% bootstrap intervals, where there are {FEWEST_SEEDS} "
        "seeds or more. docs/glossary.md explains each metric.",
        folded=len(rows) > _FOLDED_FROM,
    )
    findings = [_describe(name, found) for name in ordered if name in _FOREMOST]
    section = Section(
        "diagnostics", "How it learned", "What do the method’s own metrics show?", findings, (), (table,)
    )
    return Chapter(section, drawings)


_FOREMOST = ("effective_sample_size", "max_weight", "weights_kl", "policy_entropy", "grad_norm")
"""The metrics that have a sentence."""


def _title(name: str) -> str:
    return next((titles[name] for titles in _NAMES.values() if name in titles), name)


def _compute_curves(arm: Arm, by_steps: bool) -> dict[str, _Curve]:
    members = np.flatnonzero((arm.sweep.point == arm.point) & arm.scores.compared)
    places = find_places(arm.sweep, arm.scores, members, by_steps=by_steps)
    read = {name: collect_metric(places, values[members]) for name, values in arm.metrics.items()}
    return {
        name: _Curve(places.x, estimate_known(values, resamples=_RESAMPLES))
        for name, values in read.items()
        if not np.isnan(values).all()
    }


def _draw_group(
    group: str, names: Iterable[str], found: Mapping[str, Mapping[str, _Curve]], x_label: str
) -> Drawing | None:
    """Draws the metrics of a group that change, each on its own axes; None where none does."""
    charts = []
    for name in names:
        with_it = {label: curves[name] for label, curves in found.items() if name in curves}
        values = np.concatenate([curve.estimate.value for curve in with_it.values()])
        if np.nanmax(values) > np.nanmin(values):
            series = [figures.Series(label, curve.x, *curve.estimate) for label, curve in with_it.items()]
            charts.append((_title(name), series))
    if not charts:
        return None
    return Drawing(
        functools.partial(figures.panels, charts, x_label=x_label, y_label=""),
        alt=f"The {group} against {x_label}: "
        + "; ".join(_say_panel(*chart, len(found) > 1) for chart in charts)
        + ".",
        caption=f"The {group}: interquartile mean over the seeds that have not diverged, at each point on its own, "
        f"with its 95% bootstrap band where there are {FEWEST_SEEDS} seeds or more.",
        folded=group == _OTHERS,
    )


def _say_panel(title: str, series: Sequence[figures.Series], several: bool) -> str:
    name = title.partition(" (")[0]
    return f"{name} " + ", ".join(
        f"{f'of {curve.label} ' if several else ''}{_say_change(curve.centre)}" for curve in series
    )


def _say_change(values: np.ndarray) -> str:
    """Says in words how a curve moves between its ends."""
    known = values[~np.isnan(values)]
    first, last = format_number(float(known[0])), format_number(float(known[-1]))
    if first == last:
        return f"begins and ends at {first}"
    return f"{'falls' if known[-1] < known[0] else 'rises'} from {first} to {last}"


def _summarise(estimate: Estimate) -> tuple[str, ...]:
    """Writes a curve's first, lowest, highest and last value, the ends with their intervals."""
    known = np.flatnonzero(~np.isnan(estimate.value))
    first, last = (format_interval_cell(Estimate(*(part[at] for part in estimate))) for at in known[[0, -1]])
    values = estimate.value[known]
    return first, format_number(float(values.min())), format_number(float(values.max())), last


def _describe(name: str, found: Mapping[str, Mapping[str, _Curve]]) -> str:
    """Says how a metric moved, of each arm."""
    with_it = {label: curves[name].estimate.value for label, curves in found.items() if name in curves}
    title = _title(name).partition(" (")[0].partition(",")[0]
    if len(found) == 1:
        (values,) = with_it.values()
        return f"The {title} {_say_change(values)}."
    return f"The {title}: " + "; ".join(f"{label} {_say_change(values)}" for label, values in with_it.items()) + "."

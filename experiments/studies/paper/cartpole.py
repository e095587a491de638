"""CartPole-v1: learning curves, environment steps to 475, and the spread over seeds."""

import dataclasses
from typing import Any

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw, make_curve, make_row
from experiments.studies.methods import Method
from experiments.studies.paper.dropped_returns import describe_dropped_returns
from experiments.studies.paper.methods import (
    DPO,
    GRPO,
    HAEPO,
    PAPER,
    PAPER_ZSCORED,
    PPO,
    PPO_10_EPOCHS,
    REINFORCE,
)
from experiments.studies.paper.tasks import CARTPOLE
from experiments.studies.paper.tuning import Tuned, run_reported, tune
from experiments.studies.run_data import RunData, find_steps_to
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import drop_unsupported, estimate_interquartile_mean
from haepo_jax.analysis.statistics import performance_profile, variance_interval
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, Comparison, compare, compare_variances, decide
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_comparison, format_interval_cell, name_bands
from haepo_jax.reports.page import Claim, Figure, Section, Table
from haepo_jax.text import format_settings, shorten_keys

SOLVED = 475.0

# PPO is here a second time: more epochs than the usual four make it faster on this task.
BASELINES = (PPO, PPO_10_EPOCHS, GRPO, DPO, REINFORCE)
METHODS = (PAPER, PAPER_ZSCORED, *HAEPO.values(), *BASELINES)


@dataclasses.dataclass(frozen=True)
class CartPole:
    """The findings of the study, for the report and for the studies that build on it."""

    section: Section
    tuned: dict[str, Tuned]
    """By the name of the method."""
    recommended: Method
    """The HAEPO whose tuning seeds did best."""
    headline: str


def run_study(runs: Runs) -> CartPole:
    """Tunes every method, then trains it on the reported seeds."""
    tuned = {method.name: tune(runs, CARTPOLE, method) for method in METHODS}
    recommended = HAEPO["log_ratio"]  # where nothing is tuned
    if runs.scale.tuning_seeds:
        recommended = max(HAEPO.values(), key=lambda method: tuned[method.name].score)
    data = {method.name: run_reported(runs, tuned[method.name]) for method in METHODS}
    grid = CARTPOLE.grid(data[recommended.name])
    curves = {name: CARTPOLE.curve(run) for name, run in data.items()}
    steps = {name: find_steps_to(curve, grid, SOLVED) for name, curve in curves.items()}
    finals = {name: curve[:, -1] for name, curve in curves.items()}
    how = "chosen on tuning seeds" if runs.scale.tuning_seeds else "as nothing was tuned"
    headline = _write_headline(recommended, how, steps)
    section = Section(
        slug="cartpole",
        title="CartPole-v1",
        question="After how many environment steps is a return of 475 reached, and how far apart are the seeds?",
        findings=(
            *_write_findings(headline, recommended, steps, finals),
            describe_dropped_returns(PAPER.label, data[PAPER.name]),
        ),
        figures=_draw_figures(grid, curves, steps, finals),
        tables=(_make_table(tuned, data, steps, finals),),
        claims=_judge_claims(recommended, curves, steps, quick=runs.scale.quick),
    )
    return CartPole(section, tuned, recommended, headline)


def _compare_steps(steps: dict[str, np.ndarray], method: Method, rival: Method) -> Comparison:
    """Environment steps to the return, less the rival's."""
    never = f"neither reaches {SOLVED:g}"
    return compare(steps[method.name][None], steps[rival.name][None], larger=False, never=never)


def _write_headline(recommended: Method, how: str, steps: dict[str, np.ndarray]) -> str:
    """Words the headline of the report: every method in the same order, and no winner."""
    seeds = len(steps[recommended.name])
    reached = "; ".join(
        f"{method.label} {format_interval_cell(estimate_interquartile_mean(steps[method.name]), infinite='never')}"
        for method in METHODS
    )
    return (
        f"HAEPO and its baselines on CartPole-v1, environment steps to a return of {SOLVED:g} (interquartile mean "
        f"over {seeds} seeds, {name_bands(seeds, '95% intervals')}): {reached}. The recommended HAEPO has the score "
        f"{recommended.base['haepo.score']}, {how}."
    )


def _write_findings(
    headline: str, recommended: Method, steps: dict[str, np.ndarray], finals: dict[str, np.ndarray]
) -> tuple[str, ...]:
    findings = [headline]
    for rival in BASELINES:
        fewer = _compare_steps(steps, recommended, rival)
        word = {REPRODUCED: "sooner", CONTRADICTED: "later"}.get(decide(fewer), decide(fewer))
        findings.append(
            f"{recommended.label} less {rival.label}, environment steps to {SOLVED:g} (difference of interquartile "
            f"means): {format_comparison(fewer)}: {word}."
        )
    for method in METHODS:
        failed = int((finals[method.name] < SOLVED).sum())
        if failed:
            worst = finals[method.name].min()
            findings.append(
                f"{method.label}: {failed} of {finals[method.name].size} seeds end below {SOLVED:g}, the worst at "
                f"{worst:.0f}."
            )
    return tuple(findings)


def _draw_figures(
    grid: np.ndarray, curves: dict[str, np.ndarray], steps: dict[str, np.ndarray], finals: dict[str, np.ndarray]
) -> tuple[Figure, ...]:
    series = [make_curve(method.label, grid, curves[method.name]) for method in METHODS]
    thresholds, seeds = np.linspace(0, 499, 100), len(next(iter(finals.values())))
    profiles = [
        figures.Series(
            method.label,
            thresholds,
            *drop_unsupported(performance_profile(finals[method.name][None], thresholds), seeds),
        )
        for method in METHODS
    ]
    rows = [make_row(method.label, steps[method.name]) for method in METHODS]
    return (
        draw(
            figures.curves,
            series,
            x_label="environment steps",
            y_label="episode return",
            y_line=SOLVED,
            alt="Learning curves of all methods on CartPole-v1",
            caption=f"Interquartile mean over seeds of the return against environment steps, {name_bands(seeds)}. The "
            f"dashed line is {SOLVED:g}.",
        ),
        draw(
            figures.intervals,
            rows,
            x_label=f"environment steps to a return of {SOLVED:g}",
            alt="Environment steps to 475 for each method",
            caption=f"Environment steps until the smoothed return is {SOLVED:g}: interquartile mean over seeds, "
            f"{name_bands(seeds, 'its 95% interval')}. A seed that never gets there counts as never.",
        ),
        draw(
            figures.strip,
            [(method.label, finals[method.name]) for method in METHODS],
            x_label="final return",
            alt="Final return of every seed",
            caption="The final return of every seed: those that failed late are here.",
        ),
        draw(
            figures.profiles,
            profiles,
            x_label="final return above",
            y_label="share of seeds",
            alt="Performance profiles",
            caption="Performance profiles: the share of seeds whose final return is above a score.",
        ),
    )


def _make_table(
    tuned: dict[str, Tuned], data: dict[str, RunData], steps: dict[str, np.ndarray], finals: dict[str, np.ndarray]
) -> Table:
    rows = []
    for method in METHODS:
        final, run = finals[method.name], data[method.name]
        rows.append(
            (
                method.label,
                format_settings(shorten_keys(tuned[method.name].chosen)),
                format_interval_cell(estimate_interquartile_mean(steps[method.name]), infinite="never"),
                format_interval_cell(estimate_interquartile_mean(final)),
                f"{final.min():.1f}",
                f"{int((final >= SOLVED).sum())} of {final.size}",
                format_interval_cell(drop_unsupported(variance_interval(final[None]), final.size)),
                f"{run.summary['env_steps'] / run.summary['wall_clock']['run_seconds']:,.0f}",
            )
        )
    return Table(
        caption="CartPole-v1 on the reported seeds",
        columns=(
            "method",
            "chosen settings",
            f"env steps to {SOLVED:g}",
            "final return, IQM",
            "worst seed",
            f"seeds at {SOLVED:g}",
            "variance over seeds",
            "env steps a second",
        ),
        rows=rows,
        note=f"IQM: interquartile mean. {explain_brackets(len(next(iter(finals.values()))))}",
    )


def _judge_claims(
    recommended: Method, curves: dict[str, np.ndarray], steps: dict[str, np.ndarray], *, quick: bool
) -> tuple[Claim, ...]:
    label = f"against {PPO.label}"
    forms = (PAPER, PAPER_ZSCORED, recommended)
    # Over the whole of learning: how far seeds are apart at each point, in the mean.
    smoother = {
        method.label: {
            label: compare_variances(curves[method.name].mean(axis=1)[None], curves[PPO.name].mean(axis=1)[None])
        }
        for method in forms
    }
    shown: Any = {"paper": PAPER.label, "recommended": recommended.label, "quick": quick}
    return (
        *judge(
            "HAEPO converges faster than PPO on CartPole-v1.",
            "key results; abstract",
            f"Environment steps to {SOLVED:g}, difference, infinite where one never gets there",
            {method.label: {label: _compare_steps(steps, method, PPO)} for method in forms},
            **shown,
        ),
        *judge(
            "HAEPO's learning is smoother and more stable than PPO's on CartPole-v1.",
            "key results",
            "Variance over seeds of the return averaged over the whole of learning, as a ratio to PPO's",
            smoother,
            **shown,
        ),
    )

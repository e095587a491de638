"""Random walk with a sparse reward: success against environment steps and against the clock."""

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.paper.dropped_returns import describe_dropped_returns
from experiments.studies.paper.methods import DPO, METHODS, PAPER, PAPER_ZSCORED, PPO
from experiments.studies.paper.tasks import WALK
from experiments.studies.paper.tuning import Tuned, run_reported, tune
from experiments.studies.run_data import RunData
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval, format_interval_cell, name_bands
from haepo_jax.reports.page import Claim, Section, Table
from haepo_jax.text import format_settings, shorten_keys

CLOCK_POINTS = 100


def run_study(runs: Runs, recommended: Method) -> tuple[Section, dict[str, Tuned]]:
    """Tunes every method on the walk, then trains it on the reported seeds."""
    tuned = {method.name: tune(runs, WALK, method) for method in METHODS}
    data = {method.name: run_reported(runs, tuned[method.name]) for method in METHODS}
    grid = WALK.grid(data[recommended.name])
    curves = {name: WALK.curve(run) for name, run in data.items()}
    clock = np.linspace(0, max(run.seconds()[-1] for run in data.values()), CLOCK_POINTS + 1)[1:]
    timed = {name: _sample_at_seconds(run, clock) for name, run in data.items()}
    section = Section(
        slug="random-walk",
        title="Random walk, T = 500, reward at the goal only",
        question="How often is the goal found, after how many environment steps, and after how many seconds?",
        findings=(*_write_findings(curves), _describe_dropped(data[PAPER.name])),
        figures=(
            draw(
                figures.curves,
                [make_curve(m.label, grid, curves[m.name]) for m in METHODS],
                x_label="environment steps",
                y_label="success rate",
                alt="Success rate against environment steps",
                caption="Share of episodes that reach the goal, interquartile mean over seeds, "
                f"{name_bands(runs.scale.seeds)}. A run that used up its updates before its environment steps keeps "
                "its last value.",
            ),
            draw(
                figures.curves,
                [make_curve(m.label, clock, timed[m.name]) for m in METHODS],
                x_label="seconds of training, all seeds together, without compilation",
                y_label="success rate",
                alt="Success rate against wall-clock seconds",
                caption="The same against the clock: one program trains all seeds of a method side by side.",
            ),
        ),
        tables=(_make_table(tuned, data, curves),),
        claims=_judge_claims(recommended, curves, quick=runs.scale.quick),
    )
    return section, tuned


def _sample_at_seconds(run: RunData, clock: np.ndarray) -> np.ndarray:
    """`[members, points]` success at each moment; the newest update that had ended."""
    values = run.metric(WALK.metric)
    newest = np.clip(np.searchsorted(run.seconds(), clock, side="right") - 1, 0, None)
    # A member that has stopped keeps its last; one that never had a value has failed.
    own = [known if (known := series[~np.isnan(series)]).size else np.array([WALK.failure]) for series in values]
    return np.array([series[np.minimum(newest, len(series) - 1)] for series in own])


def _write_findings(curves: dict[str, np.ndarray]) -> tuple[str, ...]:
    lines = []
    for method in METHODS:
        curve = curves[method.name]
        whole, final = estimate_interquartile_mean(curve.mean(axis=1)), estimate_interquartile_mean(curve[:, -1])
        lost = int((curve[:, -1] < 0.9).sum())
        lines.append(
            f"{method.label}: success over the whole of learning {format_interval(whole)}, at the end "
            f"{format_interval(final)}; "
            f"{lost} of {len(curve)} seeds end below 0.9."
        )
    return tuple(lines)


def _describe_dropped(run: RunData) -> str:
    return (
        f"{describe_dropped_returns(PAPER.label, run)} Returns are 0 or 1 here: where they sum to 0 no episode has "
        "reached the goal, and z-scores would be 0 too."
    )


def _make_table(tuned: dict[str, Tuned], data: dict[str, RunData], curves: dict[str, np.ndarray]) -> Table:
    return Table(
        caption="Random walk on the reported seeds",
        columns=("method", "chosen settings", "final success, IQM", "worst seed", "seconds", "env steps a second"),
        rows=[
            (
                method.label,
                format_settings(shorten_keys(tuned[method.name].chosen)),
                format_interval_cell(estimate_interquartile_mean(curves[method.name][:, -1])),
                f"{curves[method.name][:, -1].min():.2f}",
                f"{data[method.name].summary['wall_clock']['run_seconds']:.1f}",
                f"{data[method.name].summary['env_steps_per_second']:,.0f}",
            )
            for method in METHODS
        ],
        note=f"IQM: interquartile mean. {explain_brackets(len(next(iter(curves.values()))))}",
    )


def _judge_claims(recommended: Method, curves: dict[str, np.ndarray], *, quick: bool) -> tuple[Claim, ...]:
    return judge(
        "HAEPO is ahead of PPO and DPO on a random walk with a sparse reward.",
        "experiments: random walk, T = 500",
        "Success averaged over the whole of learning, difference",
        {
            method.label: {
                f"against {rival.label}": compare(
                    curves[method.name].mean(axis=1)[None], curves[rival.name].mean(axis=1)[None]
                )
                for rival in (PPO, DPO)
            }
            for method in (PAPER, PAPER_ZSCORED, recommended)
        },
        paper=PAPER.label,
        recommended=recommended.label,
        quick=quick,
    )

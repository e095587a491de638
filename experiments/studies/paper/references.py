"""The reference policy: what it is a copy of, and how often it moves."""

from collections.abc import Mapping

import numpy as np

from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.paper.tasks import CARTPOLE
from experiments.studies.paper.tuning import Tuned, run_reported
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, compare, decide
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_comparison, format_interval_cell, name_bands
from haepo_jax.reports.page import Section, Table

KL_COEF = 0.1  # enough to distinguish the rules; at the paper's largest, 0.01, they are alike
PERIODS = (2, 5, 20)
_UPDATES = 60


def run_study(runs: Runs, recommended: Method, tuned: Mapping[str, Tuned]) -> Section:
    """Runs every rule for the reference of the recommended HAEPO, on CartPole."""
    curves, grid = _run_rules(runs, tuned[recommended.name])
    areas = {label: curve.mean(axis=1) for label, curve in curves.items()}
    return Section(
        slug="references",
        title="The reference policy",
        question="What does each rule do: the previous policy, a copy every few updates, a running mean, or frozen?",
        findings=_write_findings(areas),
        figures=(
            draw(
                figures.curves,
                [make_curve(label, grid, curve) for label, curve in curves.items()],
                x_label="environment steps",
                y_label="episode return",
                alt="Learning curves for each rule of the reference policy",
                caption=f"CartPole-v1, {recommended.label}, lambda {KL_COEF:g}: interquartile mean over seeds, "
                f"{name_bands(runs.scale.seeds)}.",
            ),
        ),
        tables=(
            Table(
                caption="Return on CartPole-v1 for each rule of the reference",
                columns=("reference", "mean over learning", "final", "worst seed"),
                rows=[
                    (
                        label,
                        format_interval_cell(estimate_interquartile_mean(areas[label])),
                        format_interval_cell(estimate_interquartile_mean(curve[:, -1])),
                        f"{curve[:, -1].min():.0f}",
                    )
                    for label, curve in curves.items()
                ],
                note=explain_brackets(runs.scale.seeds),
            ),
        ),
    )


def _run_rules(runs: Runs, choice: Tuned) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """By rule, `[seeds, points]`."""
    curves = {}
    common = {"haepo.kl_coef": KL_COEF, "num_updates": min(choice.settings["num_updates"], _UPDATES)}
    for label, rule in (("previous", "previous"), ("running mean", "ema"), ("frozen", "frozen")):
        run = run_reported(runs, choice, f"reference_{rule}", **common, **{"haepo.reference": rule})
        curves[label] = CARTPOLE.curve(run)
    run = run_reported(
        runs,
        choice,
        "reference_periodic",
        **common,
        **{"haepo.reference": "periodic", "sweep.haepo.reference_period": PERIODS},
    )
    for swept, rows in run.groups():
        curves[f"every {swept['haepo.reference_period']:.0f} updates"] = CARTPOLE.curve(run)[rows]
    none = {"haepo.reference": "none", "haepo.kl_coef": 0.0, "num_updates": common["num_updates"]}
    curves["none"] = CARTPOLE.curve(run_reported(runs, choice, "reference_none", **none))
    return curves, CARTPOLE.grid(run)


def _write_findings(areas: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    lines = []
    for label, values in areas.items():
        if label != "none":
            made = compare(values[None], areas["none"][None])
            word = {REPRODUCED: "more", CONTRADICTED: "less"}.get(decide(made), decide(made))
            lines.append(f"{label} less none, return, mean over learning: {format_comparison(made)}: {word}.")
    return tuple(lines)

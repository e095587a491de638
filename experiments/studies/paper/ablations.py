"""The effect of each part of HAEPO: the two regularisers, the normalisation of returns, and M."""

from collections.abc import Mapping

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw, make_row
from experiments.studies.methods import Method
from experiments.studies.paper.methods import BETAS, HAEPO, PAPER
from experiments.studies.paper.tasks import CARTPOLE, WALK
from experiments.studies.paper.tuning import Task, Tuned, run_reported
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, Comparison, compare, decide
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_comparison, format_interval_cell, name_bands
from haepo_jax.reports.page import Claim, Figure, Section, Table

VARIANTS = ("full", "beta = 0", "lambda = 0", "both 0")
BETA, LAMBDA = "haepo.entropy_coef", "haepo.kl_coef"
LABELS = {task.name: task.label for task in (CARTPOLE, WALK)}
OTHER_M = (4, 8, 32)
_LAMBDA_VALUE = 5e-3
_UPDATES = 60  # half of what the methods are compared over
_PAPER = {beta: f"{PAPER.label}, beta {beta:g}" for beta in BETAS}
FORMS = (*_PAPER.values(), *(method.label for method in HAEPO.values()))
"""What the regularisers are taken from: the paper's form over the paper's range, and the others as they were tuned."""

Areas = Mapping[tuple[str, str], np.ndarray]
"""By form and variant, the mean metric of each seed over learning."""


def run_study(runs: Runs, recommended: Method, tuned: Mapping[str, Mapping[str, Tuned]]) -> Section:
    """Ablations on CartPole and on the walk, with the settings chosen there.

    Args:
      runs: where the runs are.
      recommended: the HAEPO whose M is varied.
      tuned: choices by task and method.
    """
    areas = {task.name: _run_regularisers(runs, task, tuned[task.name]) for task in (CARTPOLE, WALK)}
    betas = {name: choices[PAPER.name].chosen[BETA] for name, choices in tuned.items()}
    normalizations = _run_normalizations(runs, tuned[CARTPOLE.name])
    sizes = _run_sizes(runs, tuned[CARTPOLE.name][recommended.name])
    return Section(
        slug="ablations",
        title="Ablations",
        question="What do the entropy term, the KL term, the normalisation of returns and M contribute?",
        findings=_write_findings(areas, normalizations),
        figures=(
            *(_draw_figure(task, areas[task.name]) for task in (CARTPOLE, WALK)),
            draw(
                figures.intervals,
                [make_row(label, values) for label, values in normalizations.items()],
                x_label="episode return, mean over learning",
                alt="Sum against z-score normalisation",
                caption="CartPole-v1: z-scores against the paper's normalisation by the sum of returns. Interquartile "
                f"mean over seeds, {name_bands(runs.scale.seeds, '95% intervals')}.",
            ),
            draw(
                figures.intervals,
                [make_row(f"M = {size}", values) for size, values in sizes.items()],
                x_label="episode return, mean over learning",
                alt="Return for each M",
                caption=f"CartPole-v1, {recommended.label}: the same environment steps in batches of M episodes.",
            ),
        ),
        tables=tuple(_make_table(task, areas[task.name]) for task in (CARTPOLE, WALK)),
        claims=_judge_claims(areas, betas, recommended, quick=runs.scale.quick),
    )


def _run_regularisers(runs: Runs, task: Task, tuned: Mapping[str, Tuned]) -> Areas:
    areas = {}
    cases = [
        (form, f"ablation_{PAPER.name}_{number}", tuned[PAPER.name], beta, beta)
        for number, (beta, form) in enumerate(_PAPER.items(), start=1)
    ]
    for method in HAEPO.values():
        choice = tuned[method.name]
        cases.append((method.label, f"ablation_{method.name}", choice, choice.chosen[BETA], _LAMBDA_VALUE))
    for form, name, choice, beta, kl_coef in cases:
        run = run_reported(
            runs,
            choice,
            name,
            **{f"sweep.{BETA}": (beta, 0.0), f"sweep.{LAMBDA}": (kl_coef, 0.0)},
            num_updates=min(choice.settings["num_updates"], _UPDATES * choice.method.patience),
        )
        area = task.curve(run).mean(axis=1)
        names = {
            (True, True): "full",
            (False, True): "beta = 0",
            (True, False): "lambda = 0",
            (False, False): "both 0",
        }
        for swept, rows in run.groups():
            areas[form, names[swept[BETA] > 0, swept[LAMBDA] > 0]] = area[rows]
    return areas


def _run_normalizations(runs: Runs, tuned: Mapping[str, Tuned]) -> dict[str, np.ndarray]:
    areas = {}
    for method in HAEPO.values():
        for normalization in ("zscore", "sum"):
            choice = tuned[method.name]
            # z-scores are the setting of the main run.
            name = method.name if normalization == "zscore" else f"normalized_by_sum_{method.name}"
            changes = {} if normalization == "zscore" else {"haepo.normalization": normalization}
            run = run_reported(runs, choice, name, **changes)
            areas[f"{method.label}, {normalization}"] = CARTPOLE.curve(run).mean(axis=1)
    return areas


def _run_sizes(runs: Runs, choice: Tuned) -> dict[int, np.ndarray]:
    usual = choice.settings["num_trajectories"]
    areas = {usual: CARTPOLE.curve(run_reported(runs, choice)).mean(axis=1)}
    for size in OTHER_M:
        updates = max(2, choice.settings["num_updates"] * usual // size)
        run = run_reported(runs, choice, f"batches_of_{size}", num_trajectories=size, num_updates=updates)
        areas[size] = CARTPOLE.curve(run).mean(axis=1)
    return dict(sorted(areas.items()))


def _compare_with_full(areas: Areas, variant: str) -> dict[str, Comparison]:
    return {form: compare(areas[form, "full"][None], areas[form, variant][None]) for form in FORMS}


def _write_findings(areas: Mapping[str, Areas], normalizations: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    differences = [
        (f"{LABELS[task]}, {form}: full less {variant} is {format_comparison(difference)}.", decide(difference))
        for task, by in areas.items()
        for variant in VARIANTS[1:]
        for form, difference in _compare_with_full(by, variant).items()
    ]
    lines = [line for line, word in differences if word in (REPRODUCED, CONTRADICTED)]
    if not lines:
        shown = all(word == NO_DIFFERENCE for _, word in differences)
        lines = [f"What the regularisers do is {'not seen: no difference is shown' if shown else 'undecided'}."]
    for method in HAEPO.values():
        difference = compare(
            normalizations[f"{method.label}, zscore"][None], normalizations[f"{method.label}, sum"][None]
        )
        lines.append(f"CartPole, {method.label}: z-scores less sum normalisation is {format_comparison(difference)}.")
    return tuple(lines)


def _draw_figure(task: Task, areas: Areas) -> Figure:
    cells = [[estimate_interquartile_mean(areas[form, variant]) for variant in VARIANTS] for form in FORMS]
    values, lows, highs = (np.array([[float(cell[k]) for cell in row] for row in cells]) for k in range(3))
    return draw(
        figures.grouped_intervals,
        FORMS,
        VARIANTS,
        values,
        lows,
        highs,
        x_label=f"{task.metric.replace('_', ' ')}, mean over learning",
        alt=f"Ablation of the regularisers on {task.label}",
        caption=f"{task.label}: each form with both regularisers, without one, and without either. Interquartile "
        f"mean over seeds, {name_bands(_count_seeds(areas), '95% intervals')}.",
    )


def _count_seeds(areas: Areas) -> int:
    return len(areas[FORMS[0], "full"])


def _make_table(task: Task, areas: Areas) -> Table:
    return Table(
        caption=f"{task.label}: {task.metric.replace('_', ' ')}, mean over learning",
        columns=("form", *VARIANTS),
        rows=[
            (
                form,
                *(format_interval_cell(estimate_interquartile_mean(areas[form, variant])) for variant in VARIANTS),
            )
            for form in FORMS
        ],
        note=f"Where it is on lambda is beta in the paper's form, whose other settings are those chosen, and "
        f"{_LAMBDA_VALUE:g} in the others, whose beta is the one chosen. " + explain_brackets(_count_seeds(areas)),
    )


def _judge_claims(
    areas: Mapping[str, Areas], betas: Mapping[str, float], recommended: Method, *, quick: bool
) -> tuple[Claim, ...]:
    """The paper's form is judged at the beta chosen for each task."""
    claims: list[Claim] = []
    for variant, text in (
        ("beta = 0", "The entropy term over trajectory weights improves learning."),
        ("lambda = 0", "The soft KL to a reference policy improves learning."),
    ):
        differences = {task: _compare_with_full(by, variant) for task, by in areas.items()}
        claims += judge(
            text,
            "ablation on regularisation; mechanisms 2 and 3",
            f"Mean over learning, full less {variant}",
            {PAPER.label: {LABELS[task]: by[_PAPER[betas[task]]] for task, by in differences.items()}}
            | {
                method.label: {LABELS[task]: by[method.label] for task, by in differences.items()}
                for method in HAEPO.values()
            },
            paper=PAPER.label,
            recommended=recommended.label,
            quick=quick,
        )
    return tuple(claims)

"""DeepSea: does any of it explore?"""

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.paper.methods import BASELINES, HAEPO, PAPER_ZSCORED
from experiments.studies.paper.tasks import make_deep_sea
from experiments.studies.paper.tuning import Tuned, run_reported, transfer, tune
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, stratified_bootstrap
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, name_bands
from haepo_jax.reports.page import Claim, Section, Table

# Without the treasure every return is negative: there is no normalising by their sum, and the paper's form is here
# that with its other normalisation.
PAPER = PAPER_ZSCORED
METHODS = (PAPER, *HAEPO.values(), *BASELINES)
FOUND = 0.5  # of a return that is 0.99 with the treasure, and at most 0 without


def run_study(runs: Runs, recommended: Method) -> tuple[Section, dict[str, Tuned]]:
    """Tunes every method at the smallest size, and plays all sizes with those settings."""
    sizes = runs.scale.deep_seas
    tuned = {method.name: tune(runs, make_deep_sea(sizes[0]), method) for method in METHODS}
    panels, found = [], {}
    for size in sizes:
        series = []
        for method in METHODS:
            task = make_deep_sea(size)
            run = run_reported(runs, transfer(runs, tuned[method.name], task))
            curve = task.curve(run)
            found[size, method.name] = (curve[:, -1] > FOUND).astype(float)
            series.append(make_curve(method.label, task.grid(run), curve))
        panels.append((f"size {size}", series))
    shares = {
        key: drop_unsupported(Estimate(_share(values[None]), *stratified_bootstrap(values[None], _share)), values.size)
        for key, values in found.items()
    }
    section = Section(
        slug="deep-sea",
        title="DeepSea",
        question="One action sequence in two to the power of the size finds the treasure. Does any of it explore?",
        findings=_write_findings(sizes, shares),
        figures=(
            draw(
                figures.panels,
                panels,
                x_label="environment steps",
                y_label="episode return",
                alt="Learning curves on DeepSea",
                caption=f"Return, interquartile mean over seeds, {name_bands(runs.scale.seeds)}; 0.99 is the "
                "treasure.",
            ),
        ),
        tables=(
            Table(
                caption="Share of seeds that end at the treasure",
                columns=("method", *(f"size {size}" for size in sizes)),
                rows=[
                    (method.label, *(format_interval_cell(shares[size, method.name]) for size in sizes))
                    for method in METHODS
                ],
                note=f"Settings chosen at size {sizes[0]}; 2400 episodes at each size. "
                f"{explain_brackets(runs.scale.seeds)}",
            ),
        ),
        claims=_judge_claims(sizes, found, recommended, quick=runs.scale.quick),
    )
    return section, tuned


def _share(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=(0, 1))


def _write_findings(sizes: tuple[int, ...], shares: dict[tuple[int, str], Estimate]) -> tuple[str, ...]:
    lines = []
    for size in sizes:
        ends = [(method.label, shares[size, method.name]) for method in METHODS]
        if any(float(share.value) > 0 for _, share in ends):
            ends_text = "; ".join(f"{label} {format_interval_cell(share)}" for label, share in ends)
            lines.append(f"Size {size}, share of seeds that end at the treasure: {ends_text}.")
        else:
            lines.append(f"Size {size}: no seed of any method finds the treasure.")
    lines.append(
        "Without the treasure every return is negative, so that nothing can be divided by the sum of returns: the "
        "paper's form has z-scores here, which the paper has for long horizons and rewards that are rare."
    )
    return tuple(lines)


def _judge_claims(
    sizes: tuple[int, ...], found: dict[tuple[int, str], np.ndarray], recommended: Method, *, quick: bool
) -> tuple[Claim, ...]:
    most = {size: max(BASELINES, key=lambda method: float(found[size, method.name].mean())) for size in sizes}
    return judge(
        "HAEPO explores better than step-level methods where rewards are sparse and horizons long.",
        "abstract; mechanism 2",
        "Share of seeds at the treasure less that of the baseline with the most",
        {
            method.label: {
                f"size {size} against {rival.label}": _compare_shares(
                    found[size, method.name], found[size, rival.name]
                )
                for size, rival in most.items()
            }
            for method in (PAPER, recommended)
        },
        paper=PAPER.label,
        recommended=recommended.label,
        quick=quick,
    )


def _compare_shares(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """The share of ours that found it less that of theirs; where nobody did, neither is shown to explore."""
    nothing = "" if ours.any() or theirs.any() else "no seed of either finds it"
    return compare(ours[None], theirs[None], _share)._replace(nothing=nothing)

"""DeepSea: does any of it explore?"""

import numpy as np

from haepo_jax.analysis.statistics import Estimate, difference_interval, interquartile_mean_band, stratified_bootstrap
from haepo_jax.paper.methods import BASELINES, HAEPO, METHODS, Method
from haepo_jax.paper.runs import Runs
from haepo_jax.paper.tasks import deep_sea
from haepo_jax.paper.tuning import Tuned, reported, transferred, tune
from haepo_jax.reporting import figures
from haepo_jax.reporting.page import Claim, Section, Table
from haepo_jax.reporting.words import interval, verdict

FOUND = 0.5  # of a return that is 0.99 with the treasure, and at most 0 without


def study(runs: Runs, recommended: Method) -> tuple[Section, dict[str, Tuned]]:
    """Tunes every method at the smallest size, and plays all sizes with those settings."""
    sizes = runs.scale.deep_seas
    tuned = {method.name: tune(runs, deep_sea(sizes[0]), method) for method in METHODS}
    panels, found = [], {}
    for size in sizes:
        series = []
        for method in METHODS:
            task = deep_sea(size)
            run = reported(runs, transferred(runs, tuned[method.name], task))
            curve = task.curve(run)
            found[size, method.name] = (curve[:, -1] > FOUND).astype(float)
            series.append(figures.Series(method.label, task.grid(run), *interquartile_mean_band(curve)))
        panels.append((f"size {size}", series))
    shares = {
        key: Estimate(_share(values[None]), *stratified_bootstrap(values[None], _share))
        for key, values in found.items()
    }
    section = Section(
        slug="deep-sea",
        title="DeepSea",
        question="One action sequence in two to the power of the size finds the treasure. Does any of it explore?",
        findings=_findings(sizes, shares),
        figures=(
            figures.responsive(
                figures.panels,
                panels,
                x_label="environment steps",
                y_label="episode return",
                alt="Learning curves on DeepSea",
                caption="Return, interquartile mean over seeds with 95% bands; 0.99 is the treasure.",
            ),
        ),
        tables=(
            Table(
                caption="Share of seeds that end at the treasure",
                columns=("method", *(f"size {size}" for size in sizes)),
                rows=[(method.label, *(interval(shares[size, method.name]) for size in sizes)) for method in METHODS],
                note=f"Settings chosen at size {sizes[0]}; 2400 episodes at each size.",
            ),
        ),
        claims=(_claim(sizes, found, recommended),),
    )
    return section, tuned


def _share(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=(0, 1))


def _findings(sizes: tuple[int, ...], shares: dict[tuple[int, str], Estimate]) -> tuple[str, ...]:
    lines = []
    for size in sizes:
        best = max(METHODS, key=lambda method: float(shares[size, method.name].value))
        share = shares[size, best.name]
        if float(share.value) == 0:
            lines.append(f"Size {size}: no seed of any method finds the treasure.")
        else:
            lines.append(f"Size {size}: most often it is found by {best.label}, {interval(share)} of its seeds.")
    return tuple(lines)


def _claim(sizes: tuple[int, ...], found: dict[tuple[int, str], np.ndarray], recommended: Method) -> Claim:
    paper = HAEPO["sum"]
    best = {size: max(BASELINES, key=lambda method: float(found[size, method.name].mean())) for size in sizes}
    ahead = {
        (size, method.label): difference_interval(
            found[size, method.name][None], found[size, best[size].name][None], _share
        )
        for size in sizes
        for method in (paper, recommended)
    }
    return Claim(
        text="HAEPO explores better than step-level methods where rewards are sparse and horizons long.",
        source="abstract; mechanism 2",
        verdict=verdict(
            [bool(ahead[size, paper.label].low > 0) for size in sizes],
            [bool(ahead[size, recommended.label].low > 0) for size in sizes],
        ),
        evidence="Share of seeds at the treasure less that of the best baseline: "
        + "; ".join(f"size {size} {label} {interval(value)}" for (size, label), value in ahead.items())
        + ".",
    )

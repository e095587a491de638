"""CartPole-v1: learning curves, environment steps to 475, and the spread over seeds."""

import dataclasses

import numpy as np

from haepo_jax.analysis.statistics import (
    Estimate,
    difference_interval,
    interquartile_mean,
    interquartile_mean_band,
    performance_profile,
    stratified_bootstrap,
    variance_interval,
    variance_ratio,
)
from haepo_jax.paper import methods
from haepo_jax.paper.curves import RunData, steps_to
from haepo_jax.paper.methods import HAEPO, PPO, Method
from haepo_jax.paper.runs import Runs
from haepo_jax.paper.tasks import CARTPOLE
from haepo_jax.paper.tuning import Tuned, reported, tune
from haepo_jax.reporting import figures
from haepo_jax.reporting.page import Claim, Section, Table
from haepo_jax.reporting.words import interval, number, settings, verdict

SOLVED = 475.0

# PPO is here a second time: more epochs than the usual four make it faster on this task.
BASELINES = (PPO, methods.PPO_10_EPOCHS, methods.GRPO, methods.DPO, methods.REINFORCE)
METHODS = (*HAEPO.values(), *BASELINES)


@dataclasses.dataclass(frozen=True)
class CartPole:
    """What the study found, for the report and for the studies that build on it."""

    section: Section
    tuned: dict[str, Tuned]
    """By the name of the method."""
    recommended: Method
    """The HAEPO whose tuning seeds did best."""
    headline: str


def study(runs: Runs) -> CartPole:
    """Tunes every method, then trains it on the reported seeds."""
    tuned = {method.name: tune(runs, CARTPOLE, method) for method in METHODS}
    recommended = HAEPO["log_ratio"]  # where nothing is tuned
    if runs.scale.tuning_seeds:
        recommended = max(HAEPO.values(), key=lambda method: tuned[method.name].score)
    data = {method.name: reported(runs, tuned[method.name]) for method in METHODS}
    grid = CARTPOLE.grid(data[recommended.name])
    curves = {name: CARTPOLE.curve(run) for name, run in data.items()}
    steps = {name: steps_to(curve, grid, SOLVED) for name, curve in curves.items()}
    finals = {name: curve[:, -1] for name, curve in curves.items()}
    fewer = {
        rival.name: difference_interval(steps[recommended.name][None], steps[rival.name][None]) for rival in BASELINES
    }
    how = "chosen on tuning seeds" if runs.scale.tuning_seeds else "as nothing was tuned"
    headline = _headline(recommended, how, steps, fewer)
    section = Section(
        slug="cartpole",
        title="CartPole-v1",
        question="Who reaches a return of 475 in the fewest environment steps, and how far apart are the seeds?",
        findings=_findings(headline, recommended, steps, finals, fewer),
        figures=_figures(grid, curves, steps, finals),
        tables=(_table(tuned, data, steps, finals),),
        claims=_claims(recommended, curves, steps),
    )
    return CartPole(section, tuned, recommended, headline)


def _estimate(steps: np.ndarray) -> Estimate:
    return Estimate(interquartile_mean(steps[None]), *stratified_bootstrap(steps[None], interquartile_mean))


def _headline(recommended: Method, how: str, steps: dict[str, np.ndarray], fewer: dict[str, Estimate]) -> str:
    """The first paragraph of the report: who is first, said plainly."""
    own = _estimate(steps[recommended.name])
    name = f"the recommended HAEPO (score {recommended.base['haepo.score']}, {how})"
    if np.isinf(own.value):
        return f"On CartPole-v1 {name} does not reach a return of {SOLVED:g} within its environment steps."
    sentences = [
        f"On CartPole-v1 {name} reaches a return of {SOLVED:g} after {interval(own)} environment steps (interquartile "
        "mean over seeds, 95% interval)."
    ]
    behind = [rival for rival in BASELINES if fewer[rival.name].high < 0]
    ahead = [rival for rival in BASELINES if fewer[rival.name].low > 0]
    tied = [rival for rival in BASELINES if rival not in behind + ahead]
    for rivals, words in (
        (behind, "sooner than"),
        (ahead, "later than"),
        (tied, "no sooner and no later, as far as this tells, than"),
    ):
        if rivals:
            names = ", ".join(
                f"{rival.label} ({number(float(_estimate(steps[rival.name]).value))})" for rival in rivals
            )
            sentences.append(f"That is {words} {names}.")
    return " ".join(sentences)


def _findings(
    headline: str,
    recommended: Method,
    steps: dict[str, np.ndarray],
    finals: dict[str, np.ndarray],
    fewer: dict[str, Estimate],
) -> tuple[str, ...]:
    findings = [headline]
    findings += [
        f"{recommended.label} against {rival.label}: {interval(fewer[rival.name])} environment steps to {SOLVED:g} "
        "(difference of interquartile means; negative is sooner)."
        for rival in BASELINES
    ]
    for method in METHODS:
        failed = int((finals[method.name] < SOLVED).sum())
        if failed:
            worst = finals[method.name].min()
            findings.append(
                f"{method.label}: {failed} of {finals[method.name].size} seeds end below {SOLVED:g}, the worst at "
                f"{worst:.0f}."
            )
    return tuple(findings)


def _figures(
    grid: np.ndarray, curves: dict[str, np.ndarray], steps: dict[str, np.ndarray], finals: dict[str, np.ndarray]
) -> tuple[figures.Figure, ...]:
    series = [figures.Series(method.label, grid, *interquartile_mean_band(curves[method.name])) for method in METHODS]
    thresholds = np.linspace(0, 499, 100)
    profiles = [
        figures.Series(method.label, thresholds, *performance_profile(finals[method.name][None], thresholds))
        for method in METHODS
    ]
    rows = [(method.label, *map(float, _estimate(steps[method.name]))) for method in METHODS]
    return (
        figures.responsive(
            figures.curves,
            series,
            x_label="environment steps",
            y_label="episode return",
            y_line=SOLVED,
            alt="Learning curves of all methods on CartPole-v1",
            caption="Interquartile mean over seeds of the return against environment steps, with 95% bootstrap "
            f"bands. The dashed line is {SOLVED:g}.",
        ),
        figures.responsive(
            figures.intervals,
            rows,
            x_label=f"environment steps to a return of {SOLVED:g}",
            alt="Environment steps to 475 for each method",
            caption=f"Environment steps until the smoothed return is {SOLVED:g}: interquartile mean over seeds and "
            "its 95% interval. A seed that never gets there counts as infinite.",
        ),
        figures.responsive(
            figures.strip,
            [(method.label, finals[method.name]) for method in METHODS],
            x_label="final return",
            alt="Final return of every seed",
            caption="The final return of every seed: those that failed late are here.",
        ),
        figures.responsive(
            figures.profiles,
            profiles,
            x_label="final return above",
            y_label="share of seeds",
            alt="Performance profiles",
            caption="Performance profiles: the share of seeds whose final return is above a score.",
        ),
    )


def _table(
    tuned: dict[str, Tuned], data: dict[str, RunData], steps: dict[str, np.ndarray], finals: dict[str, np.ndarray]
) -> Table:
    rows = []
    for method in METHODS:
        final, run = finals[method.name], data[method.name]
        rows.append(
            (
                method.label,
                settings(tuned[method.name].chosen),
                interval(_estimate(steps[method.name])),
                interval(interquartile_mean_band(final)),
                f"{final.min():.1f}",
                f"{int((final >= SOLVED).sum())} of {final.size}",
                interval(variance_interval(final[None])),
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
        note="IQM: interquartile mean; brackets: 95% stratified bootstrap intervals.",
    )


def _claims(recommended: Method, curves: dict[str, np.ndarray], steps: dict[str, np.ndarray]) -> tuple[Claim, ...]:
    paper = HAEPO["sum"]
    faster = {
        method.name: difference_interval(steps[method.name][None], steps[PPO.name][None])
        for method in (paper, recommended)
    }
    # Over the whole of learning: how far seeds are apart at each point, in the mean.
    smoother = {
        method.name: variance_ratio(curves[method.name].mean(axis=1)[None], curves[PPO.name].mean(axis=1)[None])
        for method in (paper, recommended)
    }
    return (
        Claim(
            text="HAEPO converges faster than PPO on CartPole-v1.",
            source="key results; abstract",
            verdict=verdict([bool(faster[paper.name].high < 0)], [bool(faster[recommended.name].high < 0)]),
            evidence=f"Environment steps to {SOLVED:g}, difference to PPO: {paper.label} "
            f"{interval(faster[paper.name])}; {recommended.label} {interval(faster[recommended.name])}.",
        ),
        Claim(
            text="HAEPO's learning is smoother and more stable than PPO's on CartPole-v1.",
            source="key results",
            verdict=verdict([bool(smoother[paper.name].high < 1)], [bool(smoother[recommended.name].high < 1)]),
            evidence="Variance over seeds of the return averaged over the whole of learning, as a ratio to PPO's: "
            f"{paper.label} {interval(smoother[paper.name])}; {recommended.label} "
            f"{interval(smoother[recommended.name])}.",
        ),
    )

"""Bandits: expected regret and its spread over seeds, beside the textbook's UCB1 and Thompson sampling."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.drawing import draw
from experiments.studies.methods import Method
from experiments.studies.paper.bandit_algorithms import RULES, measure_regrets
from experiments.studies.paper.dropped_returns import describe_dropped_returns
from experiments.studies.paper.methods import BASELINES, DPO, GRPO, HAEPO, PAPER, PPO
from experiments.studies.paper.tasks import make_bandit
from experiments.studies.paper.tuning import Task, Tuned, run_reported, transfer, tune
from experiments.studies.run_data import RunData
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, stratified_bootstrap, variance_interval
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, compare, compare_variances, decide
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import (
    explain_brackets,
    format_comparison,
    format_interval,
    format_interval_cell,
    name_bands,
)
from haepo_jax.reports.page import Claim, Section, Table
from haepo_jax.text import format_settings, shorten_keys

GAUSSIAN, BERNOULLI = "GaussianBandit-haepo", "BernoulliBandit-haepo"
_TUNING_INSTANCE = 1000

# An episode is one step: the score mean is the same as sum.
_SCORES = (HAEPO["sum"], HAEPO["log_ratio"])
# The paper's sum normalisation beside z-scores, for both scores.
METHODS = (
    PAPER,
    *_SCORES,
    *(
        dataclasses.replace(
            m,
            name=f"{m.name}_sum",
            label=f"{m.label}, sum-normalised",
            base={**m.base, "haepo.normalization": "sum"},
        )
        for m in _SCORES
    ),
    *BASELINES,
)


def run_study(runs: Runs, recommended: Method) -> tuple[Section, dict[str, Tuned]]:
    """Tunes every method on the Gaussian bandits with the most arms, and plays with those settings everywhere.

    With few arms seeds are lost so seldom that tuning would not see it.
    """
    recommended = recommended if recommended in METHODS else HAEPO["sum"]  # which mean is, at one step
    arms = runs.scale.arms
    hardest = make_bandit(GAUSSIAN, arms[-1])
    strangers = tuple(range(_TUNING_INSTANCE, _TUNING_INSTANCE + runs.scale.tuning_instances))
    tuned = {
        method.name: tune(
            runs,
            hardest,
            method,
            extra={"sweep.env_params.instance": strangers, "num_seeds": runs.scale.tuning_instance_seeds},
        )
        for method in METHODS
    }
    tasks = [make_bandit(GAUSSIAN, num_arms) for num_arms in arms]
    gaussian = [task.name for task in tasks]
    tasks += [make_bandit(BERNOULLI, arms[0])] if runs.scale.bernoulli else []
    labels = {task.name: task.label for task in tasks}
    grids, curves, dropped = {}, {}, []
    for task in tasks:
        data = {method.name: _play(runs, transfer(runs, tuned[method.name], task)) for method in METHODS}
        dropped.append(describe_dropped_returns(f"{task.label}, {PAPER.label}", data[PAPER.name]))
        grids[task.name], curves[task.name] = _make_curves(runs, task, data)
    finals = {task.name: {label: task.judged(curve) for label, curve in curves[task.name].items()} for task in tasks}
    section = Section(
        slug="bandits",
        title="Bandits",
        question="How much regret does each method pay for a pull, and how far are seeds apart?",
        findings=(*_write_findings(labels, finals, gaussian, recommended), *dropped),
        figures=(
            draw(
                figures.panels,
                [
                    (
                        task.label,
                        [
                            figures.Series(label, grids[task.name], *_estimate_mean(curve))
                            for label, curve in curves[task.name].items()
                        ],
                    )
                    for task in tasks
                ],
                x_label="pulls",
                y_label="expected regret of a pull",
                y_log=True,
                columns=2,
                alt="Expected regret against pulls for each number of arms",
                caption="Expected regret of a pull, mean over bandits and seeds (an interquartile mean would hide the "
                f"seeds that are lost), {name_bands(runs.scale.instance_seeds)}. The scale is logarithmic.",
            ),
        ),
        tables=(
            *(_make_table(task, curves[task.name], finals[task.name]) for task in tasks),
            *((_make_choices_table(tuned),) if runs.scale.tuning_seeds else ()),
        ),
        claims=_judge_claims(labels, curves, finals, gaussian, recommended, quick=runs.scale.quick),
    )
    return section, tuned


def _play(runs: Runs, choice: Tuned) -> RunData:
    """The run of a method on all bandits with as many arms."""
    changes: dict[str, Any] = {"sweep.env_params.instance": _list_instances(runs)}
    return run_reported(runs, choice, **changes, num_seeds=runs.scale.instance_seeds)


def _list_instances(runs: Runs) -> tuple[int, ...]:
    return tuple(range(runs.scale.instances))


def _make_curves(runs: Runs, task: Task, data: Mapping[str, RunData]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The grid, and by label the regret `[instances, seeds, points]`."""
    shape = (runs.scale.instances, runs.scale.instance_seeds, -1)
    curves = {method.label: task.curve(data[method.name]).reshape(shape) for method in METHODS}
    grid = task.grid(data[PAPER.name])
    pulls = int(grid[-1])
    for rule in RULES[task.settings["env"]]:
        regret = measure_regrets(
            task.settings["env"],
            rule,
            num_arms=task.settings["env_kwargs.num_arms"],
            pulls=pulls,
            instances=_list_instances(runs),
            seeds=runs.scale.instance_seeds,
        )
        sums = np.concatenate([np.zeros((*regret.shape[:2], 1)), np.cumsum(regret, axis=2)], axis=2)
        ends = np.maximum(grid.astype(int), 1)
        starts = np.clip(ends - int(task.window), 0, None)
        curves[rule] = (sums[:, :, ends] - sums[:, :, starts]) / (ends - starts)
    return grid, curves


def _mean(scores: np.ndarray) -> np.ndarray:
    """Mean over bandits and seeds: regret counts in full where a seed is lost, which an interquartile mean hides."""
    return scores.mean(axis=(0, 1))


def _estimate_mean(scores: np.ndarray) -> Estimate:
    return drop_unsupported(Estimate(_mean(scores), *stratified_bootstrap(scores, _mean)), scores.shape[1])


def _find_best_rival(finals: dict[str, np.ndarray]) -> Method:
    return min((PPO, GRPO, DPO), key=lambda method: float(_mean(finals[method.label])))


def _write_findings(
    labels: dict[str, str], finals: dict[str, dict[str, np.ndarray]], gaussian: list[str], recommended: Method
) -> tuple[str, ...]:
    lines = []
    for task in gaussian:
        rival = _find_best_rival(finals[task])
        difference = compare(finals[task][recommended.label], finals[task][rival.label], _mean, larger=False)
        ours, theirs = (_estimate_mean(finals[task][method.label]) for method in (recommended, rival))
        word = {REPRODUCED: "less regret", CONTRADICTED: "more regret"}.get(decide(difference), decide(difference))
        lines.append(
            f"{labels[task]}: {recommended.label} ends at a regret of {format_interval(ours)} a pull; of PPO, GRPO "
            "and DPO "
            f"the one with the least, {rival.label}, at {format_interval(theirs)}; difference "
            f"{format_comparison(difference)}: "
            f"{word}."
        )
    lines.append("With one step an episode the scores sum and mean are the same, and mean is left out.")
    return tuple(lines)


def _make_table(task: Task, curves: dict[str, np.ndarray], finals: dict[str, np.ndarray]) -> Table:
    rows = [
        (
            label,
            format_interval_cell(_estimate_mean(finals[label])),
            format_interval_cell(_estimate_mean(curve.mean(axis=-1))),
            format_interval_cell(drop_unsupported(variance_interval(curve.mean(axis=-1)), curve.shape[1])),
            f"{float((finals[label] > 0.1).mean()):.0%}",
        )
        for label, curve in curves.items()
    ]
    return Table(
        caption=f"{task.label}: expected regret of a pull",
        columns=("method", "final, mean", "over all pulls, mean", "variance over seeds", "lost"),
        rows=rows,
        note="Final: the last tenth of the pulls; lost: runs that end above 0.1. Variance over seeds of the regret "
        "over all pulls, within each bandit, mean over bandits. "
        + explain_brackets(next(iter(curves.values())).shape[1]),
    )


def _make_choices_table(tuned: dict[str, Tuned]) -> Table:
    return Table(
        caption="Chosen settings, used on all bandits",
        columns=("method", "settings", "final regret on tuning bandits"),
        rows=[
            (method.label, format_settings(shorten_keys(tuned[method.name].chosen)), f"{tuned[method.name].score:.3g}")
            for method in METHODS
        ],
    )


def _judge_claims(
    labels: dict[str, str],
    curves: dict[str, dict[str, np.ndarray]],
    finals: dict[str, dict[str, np.ndarray]],
    gaussian: list[str],
    recommended: Method,
    *,
    quick: bool,
) -> tuple[Claim, ...]:
    arms = {task: label.rpartition(", ")[2] for task, label in labels.items()}
    forms = (PAPER.label, recommended.label)
    varies = {
        form: {
            f"{arms[task]} against {rival.label}": compare_variances(
                curves[task][form].mean(axis=-1), curves[task][rival.label].mean(axis=-1)
            )
            for task in gaussian
            for rival in (PPO, DPO)
        }
        for form in forms
    }
    ends = {
        form: {
            f"{arms[task]} against {(rival := _find_best_rival(finals[task])).label}": compare(
                finals[task][form], finals[task][rival.label], _mean, larger=False
            )
            for task in gaussian
        }
        for form in forms
    }
    shown: Any = {"paper": PAPER.label, "recommended": recommended.label, "quick": quick}
    return (
        *judge(
            "HAEPO's per-step regret varies less than that of PPO and DPO, for K = 10, 20 and 30.",
            "key results",
            "Gaussian bandits, variance over seeds of the regret over all pulls, as a ratio to the rival's",
            varies,
            **shown,
        ),
        *judge(
            "HAEPO ends with less regret than the best of PPO, GRPO and DPO, for every K.",
            "implied by the bandit experiments",
            "Gaussian bandits, final regret less that of the rival with the least",
            ends,
            **shown,
        ),
    )

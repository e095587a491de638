"""The target that the loss pulls the weights to: how sharp it is at the paper's coefficients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.studies.computed import load_or_compute
from experiments.studies.methods import STATED, nest_settings
from experiments.studies.paper.bandits import BERNOULLI, GAUSSIAN
from experiments.studies.paper.gradient_noise import measure_target_sizes
from experiments.studies.paper.methods import BETAS
from experiments.studies.paper.tasks import CARTPOLE, WALK, make_bandit
from experiments.studies.paper.tuning import Task
from experiments.studies.runs import Runs
from haepo_jax.config import from_config_dict
from haepo_jax.reports.page import Section, Table

TEMPERATURES = (*BETAS, 2 * BETAS[-1])
"""Beta + lambda, from lambda = 0 at the one end of the paper's range to lambda = beta at the other."""
NORMALIZATIONS = ("sum", "zscore")
_GROUPS = 256


def run_study(runs: Runs) -> Section:
    """Measures the targets on batches of the first policy of each task."""
    arms = runs.scale.arms[0]
    tasks = (CARTPOLE, WALK, make_bandit(GAUSSIAN, arms), make_bandit(BERNOULLI, arms))
    sizes = load_or_compute(
        runs.directory,
        "target_sizes",
        lambda: {task.name: _measure(task) for task in tasks},
        inputs={"temperatures": TEMPERATURES, "groups": _GROUPS, "arms": arms},
    )
    return Section(
        slug="sharpness",
        title="The target of the loss",
        question="How many trajectories have a share of the weights that the paper's coefficients ask for?",
        findings=(
            "With b = beta + lambda the loss is b times the divergence of the weights from a target, proportional to "
            "w_ref^(lambda / b) exp(normalised return / b), and a constant. So b decides how sharp the target is, in "
            "the unit of the normalised return, and the paper's range means something else under each normalisation.",
            *_write_findings(tasks[0], sizes[tasks[0].name]),
        ),
        tables=(_make_table(tasks, sizes),),
    )


def _measure(task: Task) -> dict[str, Any]:
    """By normalisation, `[groups, temperatures]`."""
    config = from_config_dict(nest_settings({**STATED, **task.settings, "algorithm": "haepo"}))
    varied = "env_params.instance" if "Bandit" in config.env else ""
    return {
        normalization: measure_target_sizes(
            config, normalization=normalization, temperatures=TEMPERATURES, groups=_GROUPS, varied=varied
        ).tolist()
        for normalization in NORMALIZATIONS
    }


def _take(sizes: Any) -> tuple[np.ndarray, float]:
    """The mean over groups for each temperature, and the share of groups that have a target."""
    values = np.array(sizes, float)
    ranked = values[~np.isnan(values[:, 0])]
    return ranked.mean(axis=0) if len(ranked) else np.full(len(TEMPERATURES), np.nan), len(ranked) / len(values)


def _write_findings(task: Task, sizes: Mapping[str, Any]) -> tuple[str, ...]:
    means = {normalization: _take(sizes[normalization])[0] for normalization in NORMALIZATIONS}
    words = {"sum": "returns divided by their sum", "zscore": "z-scores"}
    of = task.settings["num_trajectories"]
    return tuple(
        f"{task.label}, {words[normalization]}: the target's effective sample size is {by[0]:.1f} of {of} at b = "
        f"{TEMPERATURES[0]:g} and {by[-1]:.1f} at {TEMPERATURES[-1]:g}."
        for normalization, by in means.items()
    )


def _make_table(tasks: tuple[Task, ...], sizes: Mapping[str, Any]) -> Table:
    rows = []
    for task in tasks:
        for normalization in NORMALIZATIONS:
            means, share = _take(sizes[task.name][normalization])
            rows.append(
                (
                    f"{task.label}, {normalization}",
                    str(task.settings["num_trajectories"]),
                    f"{share:.0%}",
                    *(f"{mean:.2f}" if share else "–" for mean in means),
                )
            )
    return Table(
        caption="Effective sample size of the target under a uniform reference, mean over batches of the first policy",
        columns=("task, normalisation", "M", "batches with a target", *(f"b = {b:g}" for b in TEMPERATURES)),
        rows=rows,
        note=f"{_GROUPS} batches each. A batch whose returns are all equal or, where they are divided by it, do not "
        "sum to a positive number has no target and is left out.",
    )

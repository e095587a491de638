"""Gradients: how noisy each method's is at the same parameters, and how few trajectories carry the paper's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.studies.claims import judge
from experiments.studies.computed import load_or_compute
from experiments.studies.drawing import draw
from experiments.studies.methods import STATED, nest_settings
from experiments.studies.paper.gradient_noise import (
    estimate_signal_to_noise,
    measure_batch_gradients,
    measure_sample_sizes,
    train_actor_critic,
)
from experiments.studies.paper.methods import DPO, GRPO, HAEPO, PAPER, PPO, REINFORCE
from experiments.studies.paper.tuning import Tuned
from experiments.studies.runs import Runs
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.statistics import Estimate
from haepo_jax.analysis.verdicts import Comparison
from haepo_jax.config import from_config_dict
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_number
from haepo_jax.reports.page import Claim, Section, Table

METHODS = (PAPER, *HAEPO.values(), PPO, GRPO, DPO, REINFORCE)
STAGES = {"at the start": 0, "in the midst of learning": 25}
"""By name, PPO's updates of 512 environment steps after which the parameters are taken."""
HORIZONS = (10, 18, 32, 56, 100, 178, 316, 562, 1000, 1778, 3162, 5623, 10_000)
SHARPNESS = {"near uniform": 1.0, "half decided": 100.0}
_GROUPS = 16


def run_study(runs: Runs, tuned: Mapping[str, Tuned]) -> Section:
    """Measures gradients on CartPole, with the settings chosen there, and sample sizes on the long chain."""
    settings = {method.name: nest_settings(tuned[method.name].settings) for method in METHODS}
    noise = load_or_compute(
        runs.directory,
        "gradients",
        lambda: _measure_noise(settings, runs.scale.batches),
        inputs={"settings": settings, "batches": runs.scale.batches},
    )
    sizes = load_or_compute(runs.directory, "sample_sizes", lambda: _measure_sizes(runs))
    return Section(
        slug="gradients",
        title="Gradients and effective sample size",
        question="How noisy is each method's gradient, and where and why does the paper's score saturate?",
        findings=_write_findings(noise, sizes),
        figures=(
            *(
                draw(
                    figures.intervals,
                    [(m.label, *(by[m.name][end] for end in ("snr", "low", "high"))) for m in METHODS],
                    x_label="signal to noise of a batch's gradient",
                    title=stage,
                    alt=f"Signal to noise of gradients {stage}",
                    caption=f"CartPole-v1, {stage}: squared norm of the expected gradient over the trace of its "
                    "covariance, on fresh batches at the same parameters, with 95% intervals.",
                )
                for stage, by in noise.items()
            ),
            draw(
                figures.panels,
                [
                    (
                        policy,
                        [
                            figures.Series(
                                f"HAEPO, {score}",
                                np.array(HORIZONS, float),
                                *estimate_interquartile_mean(np.array(by[score])),
                            )
                            for score in HAEPO
                        ],
                    )
                    for policy, by in sizes.items()
                ],
                x_label="T, steps of a trajectory",
                y_label="effective sample size, of 16",
                x_log=True,
                columns=2,
                alt="Effective sample size against the length of trajectories",
                caption="Effective sample size of 16 trajectories of the long chain, by their length. log_ratio is "
                "taken after one step of Adam's length, as it is 16 on fresh data.",
            ),
        ),
        tables=tuple(_make_table(stage, by) for stage, by in noise.items()),
        claims=_judge_claims(noise, runs.scale.batches, quick=runs.scale.quick),
    )


def _measure_noise(settings: Mapping[str, Mapping[str, Any]], batches: int) -> dict[str, Any]:
    found = train_actor_critic(from_config_dict(settings[PPO.name]), tuple(STAGES.values()))
    noise: dict[str, Any] = {stage: {} for stage in STAGES}
    for method in METHODS:
        measured = measure_batch_gradients(from_config_dict(settings[method.name]), found, batches=batches)
        for stage, (slopes, env_steps) in zip(STAGES, measured, strict=True):
            noise[stage][method.name] = estimate_signal_to_noise(slopes) | {"env_steps": env_steps}
    return noise


def _measure_sizes(runs: Runs) -> dict[str, Any]:
    config = from_config_dict(
        nest_settings(
            {
                **STATED,
                "env": "LongChain-haepo",
                "env_params.length": 10**6,  # out of reach: every trajectory is as long as the horizon
                "num_trajectories": 16,
                "optimizer.learning_rate": 3e-3,
            }
        )
    )
    return {
        policy: {
            name: values.tolist()
            for name, values in measure_sample_sizes(
                config, sharpness=factor, horizons=HORIZONS, groups=_GROUPS
            ).items()
        }
        for policy, factor in SHARPNESS.items()
    }


def _write_findings(noise: Mapping[str, Any], sizes: Mapping[str, Any]) -> tuple[str, ...]:
    lines = []
    for stage, by in noise.items():
        ratios = "; ".join(f"{method.label} {_format_ratio(by[method.name])}" for method in METHODS)
        lines.append(f"Signal to noise {stage}: {ratios}.")
    for policy, by in sizes.items():
        means = np.array(by["sum"]).mean(axis=0)
        std = float(np.mean(by["step_std"]))
        lines.append(
            f"A {policy} policy, whose steps' log-probabilities have a standard deviation of {format_number(std)} "
            "nats: with "
            f"the paper's score {means[0]:.1f} of 16 trajectories count at T = 10, {means[-1]:.1f} at T = 10,000. The "
            "spread of a sum of T of them grows as the square root of T, and a softmax saturates once it is several "
            "nats wide."
        )
    return tuple(lines)


def _make_table(stage: str, by: Mapping[str, Any]) -> Table:
    return Table(
        caption=f"Gradients {stage}",
        columns=(
            "method",
            "signal to noise",
            "per 1000 env steps",
            "norm of the mean",
            "trace of the covariance",
            "env steps a batch",
        ),
        rows=[
            (
                method.label,
                _format_ratio(row),
                format_number(1000 * row["snr"] / row["env_steps"]),
                format_number(row["norm"]),
                format_number(row["variance"]),
                format_number(row["env_steps"]),
            )
            for method in METHODS
            for row in [by[method.name]]
        ],
        note="Norm and covariance depend on the scale of a loss, their ratio does not.",
    )


def _format_ratio(row: Mapping[str, float]) -> str:
    return f"{format_number(row['snr'])} [{format_number(row['low'])}, {format_number(row['high'])}]"


def _judge_claims(noise: Mapping[str, Any], batches: int, *, quick: bool) -> tuple[Claim, ...]:
    best = HAEPO["log_ratio"]
    return judge(
        "One weight for a whole trajectory gives a more coherent gradient than weights for single steps.",
        "mechanism 1",
        f"Signal to noise of a batch's gradient, difference, over {batches} batches",
        {
            method.label: {
                f"{stage} against {rival.label}": _compare_ratios(by[method.name], by[rival.name], batches)
                for stage, by in noise.items()
                for rival in (PPO, GRPO)
            }
            for method in (PAPER, best)
        },
        paper=PAPER.label,
        recommended=best.label,
        quick=quick,
    )


def _compare_ratios(ours: Mapping[str, float], theirs: Mapping[str, float], batches: int) -> Comparison:
    """Less theirs. The widest that both intervals allow: it excludes 0 where they do not meet."""
    ends = (ours["snr"] - theirs["snr"], ours["low"] - theirs["high"], ours["high"] - theirs["low"])
    return Comparison(Estimate(*map(np.asarray, ends)), batches)

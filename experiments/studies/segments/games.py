"""The MinAtar games: HAEPO with segments beside PPO, fully connected and perhaps convolutional."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from experiments.studies.drawing import draw, make_curve
from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from experiments.studies.segments.methods import HAEPO, METHODS, PPO, change
from experiments.studies.segments.scale import Scale
from experiments.studies.segments.tasks import BREAKOUT, ELSEWHERE, ELSEWHERE_STEPS
from experiments.studies.suite.learning import Learned, learn, measure_random
from experiments.studies.suite.sections import estimate_together
from experiments.studies.suite.selection import Setting, Tried, choose_one, tune
from experiments.studies.targets import judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    REPRODUCED,
    UNDECIDED,
    Comparison,
    compare,
    decide,
)
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import format_comparison, format_interval_cell, format_number, name_bands
from haepo_jax.reports.page import Figure, Section, Table

SOURCE = "target of this study"
MLP, CNN = "MLP", "CNN"
_STANDING = {
    REPRODUCED: "ahead of",
    CONTRADICTED: "behind",
    NO_DIFFERENCE: "tied with",
    UNDECIDED: "not compared by an interval with",
}


@dataclasses.dataclass(frozen=True)
class Games:
    """What both methods came to on the games."""

    tried: Mapping[str, Tried]
    """By the name of the method: every setting on the tuning seeds, its mean score over the games."""
    learned: Mapping[str, tuple[Mapping[str, Learned], ...]]
    """By network: for each game, by the name of the method."""

    def chosen(self, method: Method) -> Setting:
        """Returns the setting of a method for all games."""
        return self.tried[method.name].chosen

    def on_breakout(self, method: Method) -> Learned:
        """Returns what a method came to on Breakout."""
        return next(by[method.name] for by in self.learned[MLP] if by[method.name].task == BREAKOUT)

    def together(self, network: str, method: Method) -> np.ndarray:
        """Returns normalised scores on all games, `[games, seeds]`."""
        return np.stack([by[method.name].scores.normalized for by in self.learned[network]])


def measure(runs: Runs[Scale]) -> Games:
    """Does what is missing of the runs: one setting for all games is chosen before any reported seed is played."""
    scale = runs.scale
    tried = {
        method.name: choose_one([tune(runs, game, method, measure_random(runs, game)) for game in scale.games])
        for method in METHODS
    }
    networks: dict[str, tuple[tuple[Method, ...], int]] = {MLP: (METHODS, scale.seeds)}
    if scale.cnn_seeds:
        networks[CNN] = (tuple(map(_with_cnn, METHODS)), scale.cnn_seeds)
    learned = {
        network: tuple(
            {
                own.name: learn(runs, task, method, tried[own.name].chosen, seeds)
                for own, method in zip(METHODS, methods, strict=True)
            }
            for task in scale.games
        )
        for network, (methods, seeds) in networks.items()
    }
    return Games(tried, learned)


def _with_cnn(method: Method) -> Method:
    return change(method, f"{method.name}_cnn", method.label, **{"policy.network": "cnn"})


def describe_together(games: Games, network: str = MLP) -> str:
    """Writes the interquartile means over all games."""
    numbers = (
        f"{method.label} {format_interval_cell(estimate_together(games.together(network, method)))}"
        for method in METHODS
    )
    return (
        f"Interquartile mean of normalised scores over {len(games.learned[network])} games, {network}: "
        f"{', '.join(numbers)}"
    )


def make_section(games: Games, scale: Scale) -> Section:
    """Makes the section of the games, with its targets."""
    without = () if CNN in games.learned else ("The convolutional network was not run: --cnn adds it.",)
    return Section(
        slug="games",
        title="MinAtar",
        question="Is HAEPO with segments at PPO's score or above, with equal tuning?",
        findings=(*_write_findings(games, scale), *without),
        figures=tuple(_draw_curves(games, network) for network in games.learned),
        tables=(_make_table(games),),
        claims=(
            *(
                judge_target(
                    f"On {by[HAEPO.name].task.label} {HAEPO.label} is at PPO's score or above.",
                    SOURCE,
                    "Return at the end, difference of interquartile means",
                    {MLP: _compare_finals(by)},
                    quick=scale.quick,
                )
                for by in games.learned[MLP]
            ),
            judge_target(
                f"Over the games together {HAEPO.label} is at PPO's score or above.",
                SOURCE,
                "Normalised scores, difference of interquartile means over all games and seeds",
                {MLP: compare(games.together(MLP, HAEPO), games.together(MLP, PPO))},
                quick=scale.quick,
            ),
        ),
    )


def _compare_finals(by: Mapping[str, Learned]) -> Comparison:
    ours, theirs = (by[method.name].scores.final[None] for method in (HAEPO, PPO))
    return compare(ours, theirs)


def _write_findings(games: Games, scale: Scale) -> tuple[str, ...]:
    found = [describe_together(games, network) + "." for network in games.learned]
    for network, by_game in games.learned.items():
        standings = []
        for by in by_game:
            made = _compare_finals(by)
            word = _STANDING[UNDECIDED if scale.quick else decide(made)]
            standings.append(f"{word} PPO on {by[HAEPO.name].task.label} ({format_comparison(made)})")
        found.append(f"{network}: {HAEPO.label} is {'; '.join(standings)}.")
    return tuple(found)


def _draw_curves(games: Games, network: str) -> Figure:
    charts = [
        (
            by[HAEPO.name].task.label,
            [make_curve(method.label, by[method.name].grid, by[method.name].curve()) for method in METHODS],
        )
        for by in games.learned[network]
    ]
    seeds = games.together(network, HAEPO).shape[1]
    return draw(
        figures.panels,
        charts,
        x_label="environment steps of a member",
        y_label="return",
        columns=2,
        alt=f"Returns of both methods on the games against environment steps, {network}",
        caption=f"Smoothed return while learning, {network}: interquartile mean over {seeds} seeds, "
        f"{name_bands(seeds)}.",
    )


def _make_table(games: Games) -> Table:
    rows = []
    for network, by_game in games.learned.items():
        for by in by_game:
            task = by[HAEPO.name].task
            rows.append(
                (
                    f"{task.label}, {network}",
                    format_number(by[HAEPO.name].random),
                    *(
                        format_interval_cell(estimate_interquartile_mean(by[method.name].scores.final))
                        for method in METHODS
                    ),
                    format_comparison(_compare_finals(by)),
                    f"{format_number(task.best)} ({ELSEWHERE_STEPS / 1e6:g})",
                )
            )
        ours, theirs = (games.together(network, method) for method in METHODS)
        rows.append(
            (
                f"all games, normalised, {network}",
                "0",
                *(format_interval_cell(estimate_together(scores)) for scores in (ours, theirs)),
                format_comparison(compare(ours, theirs)),
                f"1 ({ELSEWHERE_STEPS / 1e6:g})",
            )
        )
    steps = next(iter(games.learned[MLP][0].values())).run.config["max_env_steps"]
    seeds = ", ".join(
        f"{games.together(network, HAEPO).shape[1]} seeds with the {network}" for network in games.learned
    )
    return Table(
        caption=f"Return over the last tenth of {steps:,} environment steps, interquartile mean over {seeds}",
        columns=("game", "random play", *(method.label for method in METHODS), "difference", "elsewhere"),
        rows=rows,
        note=f"Brackets: 95% bootstrap intervals, from 5 seeds on. Elsewhere: {ELSEWHERE}, of its README, with its "
        "million environment steps in brackets. Normalised, random play is 0 and that is 1.",
    )

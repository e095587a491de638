"""How long a segment should be: from one step, which is nearest to PPO, to all steps of an update."""

from collections.abc import Mapping

import numpy as np

from experiments.studies.drawing import draw
from experiments.studies.runs import Runs
from experiments.studies.segments.games import Games
from experiments.studies.segments.methods import HAEPO, LENGTH, NUM_STEPS, PPO, change
from experiments.studies.segments.scale import Scale
from experiments.studies.segments.tasks import BREAKOUT
from experiments.studies.suite.learning import Learned, learn
from experiments.studies.suite.scores import Scores
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import explain_brackets, format_interval_cell, format_number, name_bands
from haepo_jax.reports.page import Figure, Section, Table

Swept = Mapping[int, Scores]
"""By the length of a segment, over the same seeds."""


def measure(runs: Runs[Scale], games: Games) -> Swept:
    """Does what is missing of the runs; the first length is that of the games, whose runs are taken."""
    scale = runs.scale
    first, *others = scale.lengths
    rows = list(range(scale.part_seeds))
    swept = {first: games.on_breakout(HAEPO).scores.rows(rows)}
    return swept | {length: _learn(runs, games, length).scores for length in others}


def _learn(runs: Runs[Scale], games: Games, length: int) -> Learned:
    method = change(HAEPO, f"haepo_h{length}", f"h = {length}", **{LENGTH: length})
    return learn(runs, BREAKOUT, method, games.chosen(HAEPO), runs.scale.part_seeds)


def make_section(swept: Swept, games: Games, scale: Scale) -> Section:
    """Makes the section of the sweep."""
    seeds = scale.part_seeds
    estimates = {length: estimate_interquartile_mean(scores.final) for length, scores in swept.items()}
    best = max(estimates, key=lambda length: float(estimates[length].value))
    worst = min(estimates, key=lambda length: float(estimates[length].value))
    return Section(
        slug="lengths",
        title="The length of a segment",
        question="How many steps should a segment have?",
        findings=(
            f"{BREAKOUT.label}: most with h = {best}, {format_interval_cell(estimates[best])}; least with "
            f"h = {worst}, {format_interval_cell(estimates[worst])}. Nothing but h was changed.",
        ),
        figures=(_draw(swept, games, scale),),
        tables=(
            Table(
                caption=f"{BREAKOUT.label} by the length of a segment, interquartile mean over {seeds} seeds",
                columns=("h", "return at the end", "mean return over learning, normalised"),
                rows=[
                    (
                        str(length),
                        format_interval_cell(estimates[length]),
                        format_interval_cell(estimate_interquartile_mean(scores.area)),
                    )
                    for length, scores in swept.items()
                ],
                note=f"An update has {NUM_STEPS} steps in each environment. {explain_brackets(seeds)}",
            ),
        ),
    )


def _draw(swept: Swept, games: Games, scale: Scale) -> Figure:
    lengths = np.array(list(swept), np.float64)
    value, low, high = np.array([estimate_interquartile_mean(scores.final) for scores in swept.values()]).T
    ppo = float(estimate_interquartile_mean(games.on_breakout(PPO).scores.final).value)
    return draw(
        figures.curves,
        [figures.Series(HAEPO.label, lengths, value, low, high)],
        x_label="h, steps of a segment",
        y_label="return at the end",
        x_log=True,
        y_line=ppo,
        y_line_label="PPO",
        alt=f"Return on {BREAKOUT.label} against the length of a segment",
        caption=f"{BREAKOUT.label}: return over the last tenth of learning against the length of a segment, "
        f"interquartile mean over {scale.part_seeds} seeds, {name_bands(scale.part_seeds)}; dashed: PPO, "
        f"{format_number(ppo)}.",
    )

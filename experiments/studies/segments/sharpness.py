"""Who sets b, the sharpness of the target: a controller, or a number that stays."""

import dataclasses

import numpy as np

from experiments.studies.drawing import draw, make_row
from experiments.studies.methods import Method
from experiments.studies.runs import Runs
from experiments.studies.segments.games import SOURCE, Games
from experiments.studies.segments.methods import HAEPO, change
from experiments.studies.segments.scale import Scale
from experiments.studies.segments.tasks import BREAKOUT
from experiments.studies.suite.learning import learn
from experiments.studies.suite.scores import Scores
from experiments.studies.targets import judge_target
from haepo_jax.analysis.few_seeds import estimate_interquartile_mean
from haepo_jax.analysis.verdicts import compare
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import (
    explain_brackets,
    format_comparison,
    format_interval_cell,
    format_number,
    name_bands,
)
from haepo_jax.reports.page import Section, Table

_SHARES = {"half": 0.5, "right": 1.0, "five": 5.0}
"""Of the right b, by the name of the run."""


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """What each way to set b came to, over the same seeds."""

    right: float
    """The mean b that dual took."""
    held: dict[str, Scores]
    """By controller."""
    fixed: dict[str, Scores]
    """By share of the right b."""


def measure(runs: Runs[Scale], games: Games) -> Sharpness:
    """Does what is missing of the runs; those of dual are the games'."""
    seeds, dual = runs.scale.part_seeds, games.on_breakout(HAEPO)
    right = float(f"{np.nanmean(dual.run.metric('target_temperature')):.3g}")

    def scores_of(method: Method) -> Scores:
        return learn(runs, BREAKOUT, method, games.chosen(HAEPO), seeds).scores

    ess = change(HAEPO, "haepo_ess", "ess", **{"haepo.segment_adapt": "ess"})
    held = {"dual": dual.scores.rows(list(range(seeds))), "ess": scores_of(ess)}
    # With a kl_coef of 0, entropy_coef is the whole of b.
    fixed = {
        name: change(
            HAEPO,
            f"haepo_fixed_{name}",
            _label(name),
            **{"haepo.segment_adapt": "fixed", "haepo.entropy_coef": share * right},
        )
        for name, share in _SHARES.items()
    }
    return Sharpness(right, held, {name: scores_of(method) for name, method in fixed.items()})


def _label(name: str) -> str:
    return f"fixed at {_SHARES[name]:g} x the right b"


def make_section(sharpness: Sharpness, scale: Scale) -> Section:
    """Makes the section, with its target."""
    seeds = scale.part_seeds
    finals = {f"held by {name}": scores.final for name, scores in sharpness.held.items()}
    finals |= {_label(name): scores.final for name, scores in sharpness.fixed.items()}
    dual = sharpness.held["dual"].final[None]
    comparisons = {name: compare(dual, sharpness.fixed[name].final[None]) for name in _SHARES}
    return Section(
        slug="sharpness",
        title="Sharpness by a controller",
        question="Does a controller do as well as the right b, and better than wrong ones?",
        findings=(
            f"The right b is taken to be the mean of those that dual took on {BREAKOUT.label}, "
            f"{format_number(sharpness.right)}. Held by dual less fixed at it: "
            f"{format_comparison(comparisons['right'])}.",
        ),
        figures=(
            draw(
                figures.intervals,
                [make_row(label, values) for label, values in finals.items()],
                x_label="return at the end",
                alt=f"Return on {BREAKOUT.label} by what sets b",
                caption=f"{BREAKOUT.label}: return over the last tenth of learning by what sets b, interquartile mean "
                f"over {seeds} seeds, {name_bands(seeds, '95% bootstrap intervals')}.",
            ),
        ),
        tables=(
            Table(
                caption=f"{BREAKOUT.label} by what sets b, interquartile mean over {seeds} seeds",
                columns=("b is", "return at the end"),
                rows=[
                    (label, format_interval_cell(estimate_interquartile_mean(values)))
                    for label, values in finals.items()
                ],
                note=f"The right b: {format_number(sharpness.right)}. {explain_brackets(seeds)}",
            ),
        ),
        claims=(
            judge_target(
                "A controller does better than b fixed at half and at five times the right one.",
                SOURCE,
                "Return at the end, difference of interquartile means, held by dual less fixed",
                {_label(name): comparisons[name] for name in ("half", "five")},
                quick=scale.quick,
            ),
        ),
    )

"""The chapter of differences: each pair of runs, its difference and its probability of improvement."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, drop_unsupported
from haepo_jax.analysis.statistics import Estimate, probability_of_improvement
from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED, Comparison, compare, decide
from haepo_jax.reports import figures
from haepo_jax.reports.comparison.folders import Compared, collect_at_equal_steps, collect_finals
from haepo_jax.reports.formatting import format_comparison, format_interval_cell, format_number
from haepo_jax.reports.page import Section, Table
from haepo_jax.reports.sweep.chapter import Chapter, Drawing, make_interval_row

_WORDS = {REPRODUCED: "ahead", CONTRADICTED: "behind", NO_DIFFERENCE: NO_DIFFERENCE, UNDECIDED: UNDECIDED}
_UNEQUAL = 1.02
"""How many times the environment steps of another a run may have for the two to count as run for as long."""
_FOLDED_FROM = 15
"""A table of more rows is shown on demand only."""


class Pair(NamedTuple):
    """Two runs, by what they ended with: the first less the second.

    Attributes:
      first: name of a run.
      second: name of the other.
      comparison: the difference of their interquartile means.
      improvement: the probability that a member of the first is above one of the second.
    """

    first: str
    second: str
    comparison: Comparison
    improvement: Estimate

    @property
    def label(self) -> str:
        """Names the pair, in the order of the difference."""
        return f"{self.first} − {self.second}"

    def describe(self, measured: str) -> str:
        """Says in a sentence how the first stands beside the second."""
        word, chance = decide(self.comparison), format_interval_cell(self.improvement)
        numbers = f"difference {format_comparison(self.comparison)}, probability of improvement {chance}"
        beside = {
            REPRODUCED: f"{self.first} is ahead of {self.second}",
            CONTRADICTED: f"{self.first} is behind {self.second}",
            NO_DIFFERENCE: f"No difference between {self.first} and {self.second} is shown",
            UNDECIDED: f"Between {self.first} and {self.second} nothing is decided",
        }[word]
        return f"{beside} by {measured}: {numbers}."


def compare_pairs(names: Sequence[str], values: Sequence[np.ndarray]) -> list[Pair]:
    """Compares each pair of runs by the values `[members]` of each."""
    pairs = []
    for (first, x), (second, y) in itertools.combinations(zip(names, values, strict=True), 2):
        chance = drop_unsupported(probability_of_improvement(x[None], y[None]), min(len(x), len(y)))
        pairs.append(Pair(first, second, compare(x[None], y[None]), chance))
    return pairs


def make_differences_chapter(runs: Sequence[Compared], measured: str) -> Chapter:
    """Makes the chapter of all pairs, by final return and, where the runs took unequal steps, at equal steps too.

    Args:
      runs: these.
      measured: the meaning of a final return, in words.
    """
    names = [run.name for run in runs]
    pairs = compare_pairs(names, collect_finals(runs))
    findings, tables = [pair.describe("final return") for pair in pairs], [_make_table(pairs, f"By {measured}")]
    drawings = [_draw_differences(pairs, measured), _draw_chances(pairs)]
    if max(run.last_steps for run in runs) > _UNEQUAL * min(run.last_steps for run in runs):
        steps, values = collect_at_equal_steps(runs)
        at = f"mean return of the last tenth of the first {steps:,} environment steps, which all runs have"
        equal = compare_pairs(names, values)
        findings += [pair.describe(f"the return at {steps:,} environment steps") for pair in equal]
        tables.append(_make_table(equal, f"At equal environment steps: {at}"))
        drawings.append(_draw_differences(equal, at))
    section = Section("differences", "Differences", "Which run is ahead, and how surely?", findings, (), tables)
    return Chapter(section, tuple(drawings))


def _make_table(pairs: Sequence[Pair], caption: str) -> Table:
    return Table(
        caption=caption,
        columns=("first", "second", "first less second", "probability of improvement", "the first is"),
        rows=[
            (
                pair.first,
                pair.second,
                format_interval_cell(_shown(pair.comparison)),
                format_interval_cell(pair.improvement),
                _WORDS[decide(pair.comparison)],
            )
            for pair in pairs
        ],
        note="Differences of interquartile means over seeds with 95% stratified bootstrap intervals, where both have "
        f"{FEWEST_SEEDS} seeds or more; with fewer nothing is decided. The first is ahead where the interval lies "
        "above 0. Probability of improvement: how often a seed of the first is above one of the second; a tie counts "
        "a half. A member that diverged counts as the worst final return of all runs.",
        folded=len(pairs) > _FOLDED_FROM,
    )


def _shown(made: Comparison) -> Estimate:
    return made.estimate if made.seeds is None else drop_unsupported(made.estimate, made.seeds)


def _draw_differences(pairs: Sequence[Pair], measured: str) -> Drawing:
    rows = [make_interval_row(pair.label, _shown(pair.comparison)) for pair in pairs]
    return Drawing(
        functools.partial(
            figures.intervals, rows, x_label="difference of returns", reference=0.0, style=figures.NEUTRAL
        ),
        alt="Differences: "
        + "; ".join(f"{pair.label} is {format_number(row[1])}" for pair, row in zip(pairs, rows, strict=True))
        + ".",
        caption=f"Difference of interquartile means of the {measured}, with its 95% interval where both runs have "
        f"{FEWEST_SEEDS} seeds or more. Right of the line the first is ahead.",
    )


def _draw_chances(pairs: Sequence[Pair]) -> Drawing:
    rows = [make_interval_row(f"{pair.first} above {pair.second}", pair.improvement) for pair in pairs]
    return Drawing(
        functools.partial(
            figures.intervals, rows, x_label="probability of improvement", reference=0.5, style=figures.NEUTRAL
        ),
        alt="Probability of improvement: " + "; ".join(f"{row[0]} {format_number(row[1])}" for row in rows) + ".",
        caption="How probable it is that a seed of the first has a higher final return than one of the second, with "
        "its 95% interval; the line is a tie.",
    )

"""The targets of a study that sets its own: what their verdicts are called, how they come about, and their count."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from haepo_jax.analysis.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    REPRODUCED,
    UNDECIDED,
    VERDICTS,
    Comparison,
    decide,
    decide_all,
)
from haepo_jax.reports.formatting import format_comparison, format_number
from haepo_jax.reports.page import Claim, ClaimsChapter

WORDS: Mapping[str, str] = {
    REPRODUCED: "reached",
    CONTRADICTED: "missed",
    NO_DIFFERENCE: "not shown",
    UNDECIDED: "undecided",
}
RULE = (
    "A target is reached if its 95% interval lies on the target's side, missed if it lies on the other, and not shown "
    "if it holds the bound. It is undecided in a quick run, with fewer than 5 seeds, and where there is nothing to "
    "compare. One that stands for several comparisons is missed if one of them is, else undecided if one is, and "
    "reached only if each is. One that so many seeds are to reach is reached if they do and missed if they do not."
)
"""For readers of a page."""
CHAPTER = ClaimsChapter("What became of the targets", "Target", RULE, WORDS, forms=None)


def judge_target(
    text: str,
    source: str,
    measured: str,
    comparisons: Mapping[str, Comparison],
    *,
    quick: bool,
    shown: Callable[[Comparison], str] = format_comparison,
) -> Claim:
    """Judges a target by its comparisons.

    Args:
      text: the target, in a sentence.
      source: whose it is.
      measured: what the numbers are.
      comparisons: by what is compared with.
      quick: whether the runs are quick ones, which decide nothing.
      shown: writes the numbers of a comparison.
    """
    verdicts = {label: UNDECIDED if quick else decide(made) for label, made in comparisons.items()}
    numbers = [f"{label}: {shown(made)} ({WORDS[verdicts[label]]})" for label, made in comparisons.items()]
    evidence = f"{measured}: {'; '.join(numbers) or 'nothing to compare'}."
    made = () if quick else tuple(comparisons.values())
    return Claim(text, source, decide_all(verdicts.values()), evidence, comparisons=made)


def judge_count(
    text: str,
    source: str,
    measured: str,
    values: np.ndarray,
    is_there: np.ndarray,
    *,
    least: int,
    quick: bool,
) -> Claim:
    """Judges a target that so many seeds are to reach.

    Args:
      text: what a seed is to reach, in a sentence.
      source: whose it is.
      measured: what the numbers are.
      values: `[seeds]`.
      is_there: `[seeds]` boolean.
      least: how many seeds must.
      quick: whether the runs are quick ones, which decide nothing.
    """
    there = int(is_there.sum())
    verdict = UNDECIDED if quick else REPRODUCED if there >= least else CONTRADICTED
    numbers = (
        f"{there} of {len(values)} seeds, where {least} are asked for",
        f"median {format_number(float(np.median(values)))}",
        f"from {format_number(float(values.min()))} to {format_number(float(values.max()))}",
    )
    return Claim(
        f"{text.removesuffix('.')}, on {least} of {len(values)} seeds.",
        source,
        verdict,
        f"{measured}: {'; '.join(numbers)}.",
    )


def count_targets(claims: Iterable[Claim]) -> str:
    """Counts the targets, and names those that are not reached."""
    claims = list(claims)
    counts = Counter(claim.verdict for claim in claims)
    tally = ", ".join(f"{counts[verdict]} {WORDS[verdict]}" for verdict in VERDICTS)
    open_ones = (
        f" {WORDS[verdict].capitalize()}: {' '.join(claim.text for claim in claims if claim.verdict == verdict)}"
        for verdict in VERDICTS
        if verdict != REPRODUCED and counts[verdict]
    )
    return f"Of {len(claims)} targets: {tally}.{''.join(open_ones)}"

"""From the comparisons of a study to the claims of the page, each with its words and its numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping

from haepo_jax.analysis.verdicts import UNDECIDED, VERDICTS, Comparison, decide, decide_all, disagree
from haepo_jax.reports.formatting import format_comparison
from haepo_jax.reports.page import Claim, Section

Comparisons = Mapping[str, Comparison]
"""By what is compared with, such as a rival or a task."""


def judge(
    text: str,
    source: str,
    measured: str,
    forms: Mapping[str, Comparisons],
    *,
    paper: str,
    recommended: str,
    quick: bool,
) -> tuple[Claim, ...]:
    """Judges a claim of the paper by its comparisons; `haepo_jax.analysis.verdicts.RULE` has the rule in words.

    Args:
      text: the claim, in a sentence.
      source: where the paper makes it.
      measured: what the numbers are.
      forms: the comparisons of each form of the method, by its label; all have the same keys.
      paper: the label of the paper's own form, whose word is the claim's verdict.
      recommended: the label of the form whose word stands beside it.
      quick: whether the runs are quick ones, which decide nothing.

    Returns:
      One claim; or one for each comparison, where some reproduce it and others contradict it.
    """
    parts: dict[str, Mapping[str, Comparisons]] = {text: forms}
    if any(disagree(map(decide, forms[form].values())) for form in (paper, recommended)) and not quick:
        alone = {label: {form: {label: by[label]} for form, by in forms.items()} for label in forms[paper]}
        parts = {f"{text.removesuffix('.')} ({label}).": part for label, part in alone.items()}
    return tuple(_judge_one(part, source, measured, by, (paper, recommended), quick) for part, by in parts.items())


def _judge_one(
    text: str,
    source: str,
    measured: str,
    forms: Mapping[str, Comparisons],
    shown: tuple[str, str],
    quick: bool,
) -> Claim:
    words = {
        form: {label: UNDECIDED if quick else decide(made) for label, made in by.items()} for form, by in forms.items()
    }
    numbers = [
        f"{form}, {label}: {format_comparison(made)} ({words[form][label]})"
        for form, by in forms.items()
        for label, made in by.items()
    ]
    paper, recommended = (decide_all(words[form].values()) for form in shown)
    made = ((), ()) if quick else tuple(tuple(forms[form].values()) for form in shown)
    return Claim(text, source, paper, f"{measured}: {'; '.join(numbers)}.", recommended, *made)


def count_verdicts(sections: Iterable[Section], judged: str) -> str:
    """Counts the words of all claims, in a sentence; `judged` is the form of the method that the verdicts are on."""
    claims = [claim for section in sections for claim in section.claims]
    paper, recommended = (
        ", ".join(f"{counts[word]} {word}" for word in VERDICTS)
        for counts in (Counter(claim.verdict for claim in claims), Counter(claim.recommended for claim in claims))
    )
    return f"Of {len(claims)} claims, on {judged}: {paper}; on the form recommended here: {recommended}."

"""The sections of the page: findings, figures, tables and targets, from the numbers of the study."""

from collections.abc import Mapping

import numpy as np

from experiments.studies.drawing import draw
from experiments.studies.methods import Method
from experiments.studies.puzzles.comparison import PASS_1, Found, Learning, estimate, subtract
from experiments.studies.puzzles.judging import GREEDY, HARDER, LEARNT, list_groups
from experiments.studies.puzzles.methods import DAPO, HAEPO, PANELS
from experiments.studies.puzzles.runs import Runs
from experiments.studies.targets import judge_target
from haepo_jax.analysis.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    REPRODUCED,
    UNDECIDED,
    Comparison,
    decide,
)
from haepo_jax.language.stages.evaluation import FINE_TUNED
from haepo_jax.reports import figures
from haepo_jax.reports.formatting import (
    explain_brackets,
    format_comparison,
    format_interval_cell,
    format_number,
    name_bands,
)
from haepo_jax.reports.page import Claim, Figure, Section, Table
from haepo_jax.text import format_settings, shorten_keys

SOURCE = "target of this study"
_WORDS = {REPRODUCED: "more", CONTRADICTED: "less", NO_DIFFERENCE: "no difference shown", UNDECIDED: "undecided"}
_BRACKETS = "95% bootstrap intervals over seeds"


def describe_ends(found: Found) -> str:
    """Writes pass@1 of every policy at the end, in one order, and no winner."""
    ends = "; ".join(
        f"{label} {format_interval_cell(estimate(found.rate(name)))}" for name, label in found.labels.items()
    )
    seeds = len(found.judged)
    return (
        f"Sampled pass@1 on test puzzles of the levels learnt, mean over {seeds} seeds, "
        f"{name_bands(seeds, '95% intervals')}: {ends}"
    )


def make_comparison(runs: Runs, found: Found) -> Section:
    """Makes the section of the levels that were learnt, with the targets."""
    compared = _compare(found)
    return Section(
        slug="comparison",
        title="Learning from rewards",
        question="How many puzzles does each method's policy solve, at equal tokens and at equal KL?",
        findings=(f"{describe_ends(found)}.", *_write_findings(found, compared)),
        figures=(
            _draw_learning(found, "tokens", "response tokens learnt from"),
            _draw_learning(found, "kl", "KL from the fine-tuned policy, nats a response"),
            _draw_ends(found),
        ),
        tables=(
            _make_table(runs, found),
            _make_rivals_table(found, compared),
        ),
        claims=_judge_targets(runs, found, compared),
    )


def make_harder(found: Found) -> Section:
    """Makes the section of each kind and level of puzzles, those that were never learnt among them."""
    groups = list_groups(found.judged[0][FINE_TUNED])
    start = found.rate(FINE_TUNED, group=HARDER)
    gains = {method.label: subtract(found.rate(method.name, group=HARDER), start) for method in (HAEPO, DAPO)}
    return Section(
        slug="levels",
        title="Levels, harder ones among them",
        question="What of it holds on levels that neither fine-tuning nor learning from rewards has seen?",
        findings=tuple(
            f"Harder levels, {label} less the fine-tuned policy: {_in_words(gain)} in pass@1."
            for label, gain in gains.items()
        ),
        tables=(
            Table(
                caption="Sampled pass@1 by kind and level of the test puzzles, mean over seeds",
                columns=("policy", *groups, HARDER),
                rows=[
                    (
                        label,
                        *(format_number(float(found.rate(name, group=group).mean())) for group in groups),
                        format_interval_cell(estimate(found.rate(name, group=HARDER))),
                    )
                    for name, label in found.labels.items()
                ],
                note="The level of arithmetic is its number of operations, that of countdown its number of numbers. "
                + explain_brackets(len(found.judged), _BRACKETS),
            ),
        ),
    )


_Compared = Mapping[str, Mapping[str, Comparison]]
"""HAEPO less each rival, by its label, in each way to compare."""

_END, _TOKENS, _KL = "at the end, test puzzles", "at equal tokens, held-out puzzles", "at equal KL, held-out puzzles"


def _compare(found: Found) -> _Compared:
    ours = found.learning[HAEPO.name]

    def compare_with(rival: str, theirs: Learning, kl: float) -> Mapping[str, Comparison]:
        return {
            _END: subtract(found.rate(HAEPO.name), found.rate(rival)),
            _TOKENS: subtract(ours.at_tokens(found.equal_tokens), theirs.at_tokens(found.equal_tokens)),
            _KL: subtract(ours.at_kl(kl), theirs.at_kl(kl)),
        }

    return {
        rival.label: compare_with(rival.name, found.learning[rival.name], found.equal_kl(HAEPO, rival))
        for rival in found.rivals
    }


def _in_words(made: Comparison) -> str:
    return f"{format_comparison(made)} ({_WORDS[decide(made)]})"


def _write_findings(found: Found, compared: _Compared) -> tuple[str, ...]:
    kl = format_number(found.equal_kl(HAEPO, DAPO))
    by_way = compared[DAPO.label]
    return (
        f"{HAEPO.label} less {DAPO.label} in pass@1: {_in_words(by_way[_END])} at the end; "
        f"{_in_words(by_way[_TOKENS])} after {found.equal_tokens:,.0f} tokens; {_in_words(by_way[_KL])} where KL "
        f"first reaches {kl} nats.",
    )


def _judge_targets(runs: Runs, found: Found, compared: _Compared) -> tuple[Claim, ...]:
    ways = {_END: "at the end", _TOKENS: "at equal tokens", _KL: "at equal KL"}
    start = found.rate(FINE_TUNED)
    raised = {method.label: subtract(found.rate(method.name), start) for method in found.methods}
    return (
        *(
            judge_target(
                f"{HAEPO.label} is at or above GRPO with DAPO's settings {words}.",
                SOURCE,
                "Pass@1, difference of means over seeds",
                {DAPO.label: compared[DAPO.label][way]},
                quick=runs.scale.quick,
            )
            for way, words in ways.items()
        ),
        judge_target(
            "Every method raises the fine-tuned policy's pass@1.",
            SOURCE,
            "Pass@1 on test puzzles, difference of means over seeds",
            raised,
            quick=runs.scale.quick,
        ),
    )


def _draw_learning(found: Found, against: str, x_label: str) -> Figure:
    def draw_method(method: Method) -> figures.Series:
        learning = found.learning[method.name]
        return figures.Series(method.label, getattr(learning, against).mean(axis=0), *estimate(learning.passed))

    charts = [
        (title, [draw_method(method) for method in methods if method.name in found.learning])
        for title, methods in PANELS.items()
    ]
    seeds = len(found.judged)
    return draw(
        figures.panels,
        charts,
        x_label=x_label,
        y_label="pass@1",
        share_y=True,
        columns=2,
        alt=f"Pass@1 of every method against {x_label}",
        caption=f"Share of right answers to held-out puzzles while learning, against {x_label}: mean over {seeds} "
        f"seeds, {name_bands(seeds)}. It begins with the fine-tuned policy on the test puzzles.",
    )


def _draw_ends(found: Found) -> Figure:
    seeds = len(found.judged)
    rows = [(label, *map(float, estimate(found.rate(name)))) for name, label in found.labels.items()]
    return draw(
        figures.intervals,
        rows,
        x_label="pass@1 on test puzzles",
        alt="Pass@1 of every method at the end",
        caption=f"Sampled pass@1 at the end on test puzzles of the levels learnt: mean over {seeds} seeds, "
        f"{name_bands(seeds, '95% intervals')}.",
    )


def _make_table(runs: Runs, found: Found) -> Table:
    passes = [name for name in found.judged[0][FINE_TUNED]["rates"][LEARNT] if name in (PASS_1, "pass@4", "pass@16")]
    measures = (GREEDY, *passes)
    rows = [
        (
            found.labels[FINE_TUNED],
            *(format_interval_cell(estimate(found.rate(FINE_TUNED, measure))) for measure in measures),
            *("0", "–", "–", "–"),
        )
    ]
    for method in found.methods:
        names = found.names[method.name]
        rows.append(
            (
                method.label,
                *(format_interval_cell(estimate(found.rate(method.name, measure))) for measure in measures),
                format_interval_cell(estimate(found.mean(method.name, "reference_kl"))),
                f"{np.mean([runs.tokens(name) for name in names]):,.0f}",
                f"{min(map(runs.seconds, names)):.0f}",
                format_settings(shorten_keys(found.tuned[method.name].chosen)),
            )
        )
    return Table(
        caption="Policies at the end of training, on test puzzles of the levels learnt",
        columns=("policy", "greedy", *passes, "KL, nats", "tokens", "seconds", "chosen settings"),
        rows=rows,
        note="Means over seeds. Greedy: the share of puzzles whose likeliest answer is right; pass@k: the chance that "
        "one of k sampled answers is. Tokens: of responses that a run learnt from. Seconds: of the fastest run, which "
        "other work on the machine disturbed least, compilation included and looks at held-out puzzles not. "
        + explain_brackets(len(found.judged), _BRACKETS),
    )


def _make_rivals_table(found: Found, compared: _Compared) -> Table:
    return Table(
        caption=f"{HAEPO.label} less each rival in pass@1",
        columns=("rival", _END, _TOKENS, _KL, "equal KL, nats"),
        rows=[
            (
                rival.label,
                *(_in_words(made) for made in compared[rival.label].values()),
                format_number(found.equal_kl(HAEPO, rival)),
            )
            for rival in found.rivals
        ],
        note=f"Equal tokens: {found.equal_tokens:,.0f}, which every method has learnt from by its end. Equal KL: the "
        "largest that both reach in the mean over seeds; a seed counts where it first gets there.",
    )

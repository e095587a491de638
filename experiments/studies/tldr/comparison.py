"""The methods on the generated task: gold reward against KL, win rates, effective sample size, and what they cost."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.computed import load_or_compute
from experiments.studies.drawing import draw
from experiments.studies.language_runs import Tuned
from experiments.studies.methods import Method
from experiments.studies.tldr.methods import BASELINES, HAEPO, METHODS
from experiments.studies.tldr.runs import Runs
from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, stratified_bootstrap
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, Comparison, compare, decide
from haepo_jax.language.data import corpus, datasets
from haepo_jax.language.data.generated_task import compute_best_gold, compute_ceiling_accuracy, compute_gold_reward
from haepo_jax.language.stages.context import make_context
from haepo_jax.language.stages.evaluation import FINE_TUNED, collect_answers, compute_win_rates
from haepo_jax.reports import figures
from haepo_jax.reports.figures import Series
from haepo_jax.reports.formatting import (
    explain_brackets,
    format_comparison,
    format_interval,
    format_interval_cell,
    format_number,
    name_bands,
)
from haepo_jax.reports.page import Figure, Section, Table
from haepo_jax.text import format_settings, shorten_keys

_WINDOW = 10
"""Updates that the effective sample size is averaged over."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """The findings, for the report."""

    section: Section
    tuned: tuple[Tuned, ...]
    headline: str


@dataclasses.dataclass(frozen=True)
class _Found:
    """The numbers of the study."""

    names: Mapping[str, tuple[str, ...]]
    """The reported runs of each method."""
    judged: Mapping[str, Any]
    """`means` of each run and the win rates of each seed on the test posts, and `start`: the fine-tuned policy on the
    held-out posts."""

    def mean(self, method: Method, measure: str) -> np.ndarray:
        """Returns the mean on the test posts, `[seeds]`."""
        return np.array([self.judged["means"][name][measure] for name in self.names[method.name]])

    def wins(self, ours: str, theirs: str, kind: str = "length_controlled") -> np.ndarray:
        """Returns how often a method wins against another or the fine-tuned policy, `[seeds]`."""
        return np.array([rates[ours][theirs][kind] for rates in self.judged["win_rates"]])


def study(runs: Runs) -> Compared:
    """Tunes every method, trains it on the reported seeds, and judges all policies on the same test posts."""
    runs.prepare()
    tuned = {method.name: runs.tune(method) for method in METHODS}
    names = {method.name: runs.reported(tuned[method.name]) for method in METHODS}
    found = _Found(names, load_or_compute(runs.directory, "judged", lambda: _judged(runs, names)))
    task = load_or_compute(runs.directory, "task", lambda: _task(runs))
    recommended = HAEPO["log_ratio"]
    if runs.scale.tuned:
        recommended = max(HAEPO.values(), key=lambda method: max(score for _, score in tuned[method.name].tried))
    equal = _at_equal_kl(runs, found)
    headline = _headline(recommended, found, equal, chosen=runs.scale.tuned)
    section = Section(
        slug="comparison",
        title="HAEPO, GRPO, RLOO and DPO on the generated task",
        question="How much gold reward does each method reach, how far from the fine-tuned policy does it go for it, "
        "and whose summaries win where length is controlled for?",
        findings=(_reach(runs, task, found), *_findings(runs, recommended, found, equal)),
        figures=_figures(runs, found),
        tables=(_table(found), _win_table(found), _cost_table(runs, tuned, found)),
    )
    return Compared(section, tuple(tuned.values()), headline)


def _judged(runs: Runs, names: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    context = make_context(runs.config({}), runs.directory)
    answers = collect_answers(context, [name for group in names.values() for name in group])
    rates = [
        compute_win_rates(
            {FINE_TUNED: answers[FINE_TUNED], **{method: answers[group[seed]] for method, group in names.items()}}
        )
        for seed in range(runs.scale.seeds)
    ]
    return {
        "posts": len(answers[FINE_TUNED].lengths),
        "means": {name: given.means() for name, given in answers.items()},
        "win_rates": rates,
        "start": collect_answers(context, (), "held_out")[FINE_TUNED].means(),
    }


def _task(runs: Runs) -> dict[str, float]:
    """Computes the best to be had: gold rewards on the test posts, and the accuracy that gold gives on comparisons."""
    data = make_context(runs.config({}), runs.directory).config.data
    rows = corpus.read_completions(data, "test")
    compared = datasets.read(data.held_out_comparisons, data.comparisons_schema)
    return {
        "best": float(np.mean([compute_best_gold(row.prompt) for row in rows])),
        "references": float(np.mean([compute_gold_reward(row.prompt, row.completion) for row in rows])),
        "ceiling": compute_ceiling_accuracy([row for row in compared if isinstance(row, datasets.Comparison)]),
    }


def _reach(runs: Runs, task: Mapping[str, float], found: _Found) -> str:
    """How far there is to go."""
    return (
        f"On the test posts the best summaries earn {task['best']:.2f}, the references {task['references']:.2f} and "
        f"the fine-tuned policy {_start(found, 'gold'):.2f}. The reward model decides {runs.reward_accuracy():.3f} of "
        f"the held-out comparisons rightly; knowing gold, one would decide {task['ceiling']:.3f}."
    )


def _seed_mean(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=(0, 1))


def _estimate(values: np.ndarray) -> Estimate:
    """Mean over seeds with its interval; five seeds are too few to trim."""
    return drop_unsupported(
        Estimate(values.mean(axis=0), *stratified_bootstrap(values[None], _seed_mean)), len(values)
    )


def _less(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    return compare(ours[None], theirs[None], _seed_mean)


class _Equal(NamedTuple):
    """Every method where its KL to the fine-tuned policy first reaches the same value."""

    kl: float
    """Nats a response: what all methods reach in the mean over seeds."""
    gold: Mapping[str, np.ndarray]
    """By method, `[seeds]` on the held-out posts; a seed that never gets there has its last."""


def _at_equal_kl(runs: Runs, found: _Found) -> _Equal:
    looks = {
        method.name: [_looks(runs, found, method, measure) for measure in ("gold", "reference_kl")]
        for method in METHODS
    }
    reached = math.floor(10 * min(float(kl.mean(axis=0).max()) for _, kl in looks.values())) / 10
    gold = {
        name: np.array([np.interp(reached, np.maximum.accumulate(kl), gold) for gold, kl in zip(*both, strict=True)])
        for name, both in looks.items()
    }
    return _Equal(reached, gold)


def _headline(recommended: Method, found: _Found, equal: _Equal, *, chosen: bool) -> str:
    """Words the headline of the report: every method in the same order, and no winner."""
    seeds = len(found.names[recommended.name])
    ends = "; ".join(
        f"{method.label} {format_interval_cell(_estimate(found.mean(method, 'gold')))} at "
        f"{format_number(float(found.mean(method, 'reference_kl').mean()))} nats"
        for method in METHODS
    )
    level = "; ".join(f"{method.label} {format_number(float(equal.gold[method.name].mean()))}" for method in METHODS)
    return (
        f"HAEPO and its baselines on generated summaries, gold reward at the end and KL from the fine-tuned policy, "
        f"which has {format_number(_start(found, 'gold'))} (mean over {seeds} seeds, "
        f"{name_bands(seeds, '95% intervals')}): "
        f"{ends}. Where KL first reaches {equal.kl:.1f} nats, on held-out posts: {level}. The recommended HAEPO has "
        f"the score {recommended.base['haepo.score']}, "
        f"{'chosen on a tuning seed' if chosen else 'as nothing was tuned'}."
    )


def _in_words(made: Comparison) -> str:
    word = {REPRODUCED: "more", CONTRADICTED: "less"}.get(decide(made), decide(made))
    return f"{format_comparison(made)} ({word})"


def _start(found: _Found, measure: str) -> float:
    """Of the fine-tuned policy on the test posts."""
    return found.judged["means"][FINE_TUNED][measure]


def _findings(runs: Runs, recommended: Method, found: _Found, equal: _Equal) -> tuple[str, ...]:
    own = found.mean(recommended, "gold")
    findings = [
        f"{recommended.label} less {rival.label}: {_in_words(_less(own, found.mean(rival, 'gold')))} in gold reward, "
        f"{_in_words(_less(found.mean(recommended, 'reference_kl'), found.mean(rival, 'reference_kl')))} in nats of "
        f"KL; length-controlled win rate {format_interval(_estimate(found.wins(recommended.name, rival.name)))}."
        for rival in BASELINES
    ]
    findings += [
        f"Where KL first reaches {equal.kl:.1f} nats, {recommended.label} less {rival.label}: "
        f"{_in_words(_less(equal.gold[recommended.name], equal.gold[rival.name]))} in gold reward on held-out posts."
        for rival in BASELINES
    ]
    for method in HAEPO.values():
        sizes = _sample_sizes(runs, found, method)
        if not sizes.size:
            findings.append(f"{method.label}: every seed diverged.")
            continue
        tenth = max(1, sizes.shape[1] // 10)
        findings.append(
            f"{method.label}: effective sample size {format_number(float(sizes[:, :tenth].mean()))} of "
            f"{runs.config({}).rl.num_samples} over the first tenth of training, "
            f"{format_number(float(sizes[:, -tenth:].mean()))} over the last"
            + ("." if len(sizes) == runs.scale.seeds else f", of the {len(sizes)} seeds that did not diverge.")
        )
    return tuple(findings)


def _figures(runs: Runs, found: _Found) -> tuple[Figure, ...]:
    seeds = runs.scale.seeds
    paths, learning = [], []
    every = runs.config({}).rl.evaluate_every
    for method in METHODS:
        gold, kl = (_looks(runs, found, method, measure) for measure in ("gold", "reference_kl"))
        band = _estimate(gold)
        paths.append(Series(method.label, kl.mean(axis=0), *band))
        learning.append(Series(method.label, every * np.arange(gold.shape[1]), *band))
    saturation = []
    for method in HAEPO.values():
        sizes = _sample_sizes(runs, found, method)
        if sizes.size:
            smooth = np.stack([np.convolve(size, np.full(_WINDOW, 1 / _WINDOW), "valid") for size in sizes])
            saturation.append(Series(method.label, np.arange(smooth.shape[1]) + _WINDOW, *_estimate(smooth)))
    rates = [(method.label, *map(float, _estimate(found.wins(method.name, FINE_TUNED)))) for method in METHODS]
    return (
        draw(
            figures.curves,
            paths,
            x_label="KL to the fine-tuned policy, nats a response",
            y_label="gold reward",
            alt="Gold reward against KL for every method",
            caption="Gold reward on held-out posts against KL to the fine-tuned policy, from the start of training to "
            f"its end, with a point every {every} updates: means over {seeds} seeds, {name_bands(seeds)}. Higher at "
            "the same KL is better.",
        ),
        draw(
            figures.curves,
            learning,
            x_label="updates",
            y_label="gold reward",
            alt="Gold reward against updates for every method",
            caption="The same gold reward against updates. The methods but DPO sample as many responses an update; "
            "DPO is offline and reads as many responses from given comparisons instead.",
        ),
        draw(
            figures.intervals,
            rates,
            x_label="win rate against the fine-tuned policy, length controlled",
            alt="Length-controlled win rate of every method against the fine-tuned policy",
            caption="How often a summary earns more gold than the fine-tuned policy's on the same "
            f"{found.judged['posts']} test posts, with the difference in length taken out: mean over seeds, "
            f"{name_bands(seeds, '95% intervals')}.",
        ),
        draw(
            figures.curves,
            saturation,
            x_label="updates",
            y_label=f"effective sample size, of {runs.config({}).rl.num_samples}",
            alt="Effective sample size of HAEPO's weights for each score",
            caption="How many of the responses to a prompt HAEPO's weights are spread over, 1 / sum of squared "
            f"weights, mean over {_WINDOW} updates and over seeds, {name_bands(seeds)}. At 1 one response has all the "
            "weight.",
        ),
    )


def _looks(runs: Runs, found: _Found, method: Method, measure: str) -> np.ndarray:
    """`[seeds, 1 + looks]` from the start on; a run that diverged stays at its last look."""
    start = [found.judged["start"][measure]]
    rows = [np.concatenate([start, runs.looks(name, measure)]) for name in found.names[method.name]]
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in rows])


def _sample_sizes(runs: Runs, found: _Found, method: Method) -> np.ndarray:
    """`[seeds, updates]` the effective sample size of the weights, of the seeds that did not diverge."""
    sizes = [runs.metric(name, "effective_sample_size") for name in found.names[method.name]]
    return np.stack([size for size in sizes if np.isfinite(size).all()] or [np.empty(0)])


def _table(found: _Found) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            "fine-tuned policy",
            f"{_start(found, 'gold'):.2f}",
            f"{_start(found, 'reward'):.2f}",
            "0",
            f"{_start(found, 'length'):.1f}",
            "–",
            "–",
        )
    ]
    for method in METHODS:
        measures = [found.mean(method, measure) for measure in ("gold", "reward", "reference_kl", "length")]
        rates = [found.wins(method.name, FINE_TUNED, kind) for kind in ("plain", "length_controlled")]
        rows.append((method.label, *(format_interval_cell(_estimate(values)) for values in (*measures, *rates))))
    return Table(
        caption=f"Policies at the end of training, on {found.judged['posts']} test posts",
        columns=("policy", "gold reward", "reward model", "KL, nats", "length, tokens", "wins", "length controlled"),
        rows=rows,
        note="Means over seeds. Wins: the share of posts on which gold prefers the policy's summary to the fine-tuned "
        "policy's, plainly and with length controlled. "
        + explain_brackets(len(found.names[METHODS[0].name]), "95% bootstrap intervals over seeds"),
    )


def _cost_table(runs: Runs, tuned: Mapping[str, Tuned], found: _Found) -> Table:
    rows = []
    for method in METHODS:
        names = found.names[method.name]
        tokens, seconds = np.mean([runs.tokens(name) for name in names]), min(map(runs.seconds, names))
        rows.append(
            (
                method.label,
                format_settings(shorten_keys(tuned[method.name].chosen)),
                f"{tokens:,.0f}",
                f"{seconds:.0f}",
            )
        )
    return Table(
        caption="What a run was given and what it took",
        columns=("method", "chosen settings", "response tokens", "seconds"),
        rows=rows,
        note="Tokens: means over seeds; DPO samples nothing, and its tokens are those of given comparisons. Seconds: "
        "of the fastest run, which other work on the machine disturbed least, from the first update to the last with "
        "the program's loading and without looks at held-out posts.",
    )


def _win_table(found: _Found) -> Table:
    rows = [
        (
            ours.label,
            *("–" if ours is theirs else f"{found.wins(ours.name, theirs.name).mean():.2f}" for theirs in METHODS),
        )
        for ours in METHODS
    ]
    return Table(
        caption="Length-controlled win rate of the row against the column, judged by gold, mean over seeds",
        columns=("policy", *(method.label for method in METHODS)),
        rows=rows,
    )

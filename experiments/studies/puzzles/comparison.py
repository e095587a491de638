"""What the methods came to: at the end on test puzzles, and on held-out ones at equal tokens and at equal KL."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies.language_runs import Tuned
from experiments.studies.methods import Method
from experiments.studies.puzzles.judging import LEARNT, Judged, judge
from experiments.studies.puzzles.methods import HAEPO
from experiments.studies.puzzles.runs import PASSED, Runs
from haepo_jax.analysis.few_seeds import drop_unsupported
from haepo_jax.analysis.statistics import Estimate, stratified_bootstrap
from haepo_jax.analysis.verdicts import Comparison, compare
from haepo_jax.language.stages.evaluation import FINE_TUNED

PASS_1 = "pass@1"


class Learning(NamedTuple):
    """A method while it learns, `[seeds, looks]` each, the fine-tuned policy first."""

    passed: np.ndarray
    """Share of right answers to held-out puzzles; of the fine-tuned policy to the test puzzles."""
    kl: np.ndarray
    """Nats a response, from the fine-tuned policy."""
    tokens: np.ndarray
    """Of responses learnt from so far."""

    def at_tokens(self, tokens: float) -> np.ndarray:
        """Returns the share of right answers after so many tokens, `[seeds]`; a seed that had fewer, its last."""
        return _interpolate(tokens, self.tokens, self.passed)

    def at_kl(self, kl: float) -> np.ndarray:
        """Returns it where the KL first reaches a value, `[seeds]`; of a seed that never gets there, its last."""
        return _interpolate(kl, np.maximum.accumulate(self.kl, axis=1), self.passed)

    @property
    def largest_kl(self) -> float:
        """The largest KL, in the mean over seeds."""
        return float(self.kl.mean(axis=0).max())


@dataclasses.dataclass(frozen=True)
class Found:
    """The numbers of the study."""

    tuned: Mapping[str, Tuned]
    """By the name of the method, as all that follows."""
    names: Mapping[str, tuple[str, ...]]
    """The reported runs."""
    judged: tuple[Mapping[str, Judged], ...]
    """For each seed, with the fine-tuned policy as `sft`."""
    learning: Mapping[str, Learning]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in order."""
        return tuple(tuned.method for tuned in self.tuned.values())

    @property
    def rivals(self) -> tuple[Method, ...]:
        """All but the adaptive HAEPO."""
        return tuple(method for method in self.methods if method.name != HAEPO.name)

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the fine-tuned policy and of the methods, by their names."""
        return {FINE_TUNED: "fine-tuned policy"} | {method.name: method.label for method in self.methods}

    def rate(self, name: str, measure: str = PASS_1, group: str = LEARNT) -> np.ndarray:
        """Returns a rate of a method, or of `sft`, on a group of test puzzles, `[seeds]`."""
        return np.array([judged[name]["rates"][group][measure] for judged in self.judged])

    def mean(self, name: str, measure: str) -> np.ndarray:
        """Returns `reference_kl`, `lengths` or `ended` on the levels learnt, `[seeds]`."""
        return np.array([judged[name][measure] for judged in self.judged])

    @property
    def equal_tokens(self) -> float:
        """The tokens that every method has learnt from by its end, in the mean over seeds."""
        return min(float(of.tokens[:, -1].mean()) for of in self.learning.values())

    def equal_kl(self, ours: Method, theirs: Method) -> float:
        """The largest KL that both reach, in the mean over seeds."""
        return min(self.learning[method.name].largest_kl for method in (ours, theirs))


def measure(runs: Runs) -> Found:
    """Does what is missing of the runs: settings are chosen before any reported seed is learnt."""
    runs.write_puzzles()
    for seed in runs.tuning_seeds:
        runs.fine_tune(seed)
    tuned = {method.name: runs.tune(method) for method in runs.scale.methods}
    for seed in range(runs.scale.seeds):
        runs.fine_tune(seed)
    names = {method.name: runs.report(tuned[method.name]) for method in runs.scale.methods}
    judged = tuple(
        judge(runs, seed, {method: of_seeds[seed] for method, of_seeds in names.items()})
        for seed in range(runs.scale.seeds)
    )
    starts = [of[FINE_TUNED]["rates"][LEARNT][PASS_1] for of in judged]
    return Found(tuned, names, judged, {method: _follow(runs, of, starts) for method, of in names.items()})


def estimate(values: np.ndarray) -> Estimate:
    """Computes the mean over seeds with its interval; five seeds are too few to trim."""
    return drop_unsupported(Estimate(values.mean(axis=0), *stratified_bootstrap(values[None], _average)), len(values))


def subtract(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Compares means over seeds, ours less theirs."""
    return compare(ours[None], theirs[None], _average)


def _average(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=(0, 1))


def _follow(runs: Runs, names: tuple[str, ...], starts: Sequence[float]) -> Learning:
    """Follows runs from the fine-tuned policy on; one that diverged stays at its last look."""
    every = runs.config({}).rl.evaluate_every
    rows = []
    for name, start in zip(names, starts, strict=True):
        passed, kl = runs.looks(name, PASSED), runs.looks(name, "reference_kl")
        tokens = runs.metric(name, "tokens")[every - 1 :: every][: len(passed)]
        rows.append([np.concatenate([[first], values]) for first, values in ((start, passed), (0, kl), (0, tokens))])
    longest = max(len(row[0]) for row in rows)
    stacked = np.array([[np.pad(part, (0, longest - len(part)), mode="edge") for part in row] for row in rows])
    return Learning(*np.moveaxis(stacked, 1, 0))


def _interpolate(at: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([np.interp(at, *both) for both in zip(x, y, strict=True)])

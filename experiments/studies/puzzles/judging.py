"""Finished policies on the test puzzles: greedy answers and sampled ones, on the levels learnt and on harder ones."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.studies.computed import load_or_compute
from experiments.studies.puzzles.runs import Runs
from experiments.studies.puzzles.task import LENGTHS_OF_HARDER, REWARD
from haepo_jax.language.config import EvaluationConfig, LanguageConfig
from haepo_jax.language.data import corpus
from haepo_jax.language.data.puzzles import LEVELS, make_tokenizer
from haepo_jax.language.stages.answering import Answers, compute_pass_rates
from haepo_jax.language.stages.context import make_context
from haepo_jax.language.stages.evaluation import FINE_TUNED, collect_answers

LEARNT, HARDER = "levels learnt", "harder levels"
GREEDY = "greedy"

Judged = Mapping[str, Any]
"""Of a policy: `rates`, by the group of puzzles `greedy` and `pass@k`; `reference_kl`, `lengths` and `ended` of its
sampled answers to the levels learnt."""


def judge(runs: Runs, seed: int, names: Mapping[str, str]) -> Mapping[str, Judged]:
    """Judges the policies of a seed, and the fine-tuned one they begin with, once.

    Args:
      runs: where they are.
      seed: of all of them.
      names: of the runs, by the name of the method. A run that diverged is judged as the fine-tuned policy, from which
        nothing is left of it.

    Returns:
      By the name of the method, and `sft`.
    """
    inputs = {name: runs.provenance(name)[0]["started"] for name in names.values()}
    return load_or_compute(runs.directory, f"judged-seed{seed}", lambda: _judge(runs, seed, names), inputs=inputs)


def list_groups(judged: Judged) -> list[str]:
    """Lists the groups of puzzles that are of one kind and level, those learnt first."""
    return [group for group in judged["rates"] if group not in (LEARNT, HARDER)]


def _judge(runs: Runs, seed: int, names: Mapping[str, str]) -> dict[str, Judged]:
    finished = {method: runs.place(name)[1] for method, name in names.items() if not runs.diverged(name)}
    greedy, sampled = (
        _collect(runs, seed, list(finished.values()), evaluation)
        for evaluation in (EvaluationConfig(temperature=0.0), EvaluationConfig(num_samples=runs.scale.samples))
    )
    groups = _group_rows(runs, seed)
    found = {
        own_name: _describe(groups, greedy[own_name], sampled[own_name], runs.scale.samples) for own_name in sampled
    }
    return {FINE_TUNED: found[FINE_TUNED]} | {method: found[finished.get(method, FINE_TUNED)] for method in names}


def _collect(runs: Runs, seed: int, names: Sequence[str], evaluation: EvaluationConfig) -> Mapping[str, Answers]:
    config = dataclasses.replace(_make_config(runs, seed), evaluation=evaluation)
    return collect_answers(make_context(config, runs.directory / f"seed{seed}"), names)


def _make_config(runs: Runs, seed: int) -> LanguageConfig:
    """Makes the config of a seed with room for all test puzzles."""
    config = runs.config_of(seed)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **LENGTHS_OF_HARDER))


def _group_rows(runs: Runs, seed: int) -> dict[str, np.ndarray]:
    """Finds the rows of each group of test puzzles: all that were learnt, all harder ones, and each kind and level."""
    rows = corpus.read_prompts(_make_config(runs, seed).data, make_tokenizer(), "test").rows
    kinds = [(row.columns["puzzle"], row.columns["level"]) for row in rows]
    is_learnt = np.array([level in LEVELS[kind] for kind, level in kinds])
    found = {LEARNT: is_learnt, HARDER: ~is_learnt}
    each = sorted(set(kinds), key=lambda pair: (pair[1] not in LEVELS[pair[0]], pair))
    return found | {f"{kind} {level}": np.array([pair == (kind, level) for pair in kinds]) for kind, level in each}


def _describe(groups: Mapping[str, np.ndarray], greedy: Answers, sampled: Answers, samples: int) -> Judged:
    rates = {}
    for group, where in groups.items():
        passed = compute_pass_rates(sampled.by_function[REWARD].reshape(-1, samples)[where].ravel(), samples)
        assert passed is not None  # the rewards are 0 or 1
        rates[group] = {GREEDY: float(greedy.by_function[REWARD][where].mean())} | passed
    learnt = np.repeat(groups[LEARNT], samples)
    means = {name: float(getattr(sampled, name)[learnt].mean()) for name in ("reference_kl", "lengths", "ended")}
    return {"rates": rates, **means}

"""Evaluation of the policies of a work folder: each answers the same test posts and is judged by the same means."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data.corpus import Split
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.stages.answering import Answers, make_answering
from haepo_jax.language.stages.context import StageContext, make_context, remove_data_if_refused
from haepo_jax.language.stages.models import find_policy_folder
from haepo_jax.language.stages.reward import read_reward_model
from haepo_jax.language.stages.status import find_divergence, find_model, is_finished
from haepo_jax.language.stages.win_rates import compute_length_controlled_win_rate, compute_wins
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.text import visible

FINE_TUNED = "sft"
"""The fine-tuned policy, among the names of runs."""


def evaluate(config: LanguageConfig, workdir: StrPath) -> dict[str, Any]:
    """Judges the fine-tuned policy and every finished run of `WORKDIR/rl`; writes `WORKDIR/evaluation.json`.

    Runs that diverged are left out, with a word.

    Args:
      config: the settings; its seed draws the answers.
      workdir: holds the folders of all stages.

    Returns:
      What is written. For each policy the means over the test posts of `reward` (by the reward model), of
      `reference_kl` (nats a response), `length` (tokens) and `ended`, and on the generated task of `gold`; and for
      each two policies how often the first wins, plainly and with length controlled, judged by gold or else by the
      reward model.

    Raises:
      ConfigError: a stage that this builds on is missing.
      StorageError: the result could not be written.
    """
    workdir = Path(workdir)
    with remove_data_if_refused(workdir):
        context = make_context(config, workdir)
        answers = collect_answers(context, list_finished_runs(workdir))
    result = {
        "judge": "gold" if context.generated else "reward model",
        "posts": len(answers[FINE_TUNED].lengths),
        "policies": {name: given.means() for name, given in answers.items()},
        "win_rates": compute_win_rates(answers),
    }
    with storage_errors(workdir):
        write_json(workdir / "evaluation.json", result)
    return result


def list_finished_runs(workdir: StrPath) -> list[str]:
    """Lists the finished runs of stage `rl` by name; leaves out those that diverged, and prints them."""
    folders = [folder for folder in sorted((Path(workdir) / "rl").glob("*")) if is_finished(folder)]
    for folder in folders:
        if (update := find_divergence(folder)) is not None:
            print(f"Leaves out {visible(folder.name)}, which diverged at update {update}.", file=sys.stderr)
    return [folder.name for folder in folders if find_divergence(folder) is None]


def collect_answers(context: StageContext, names: Iterable[str], split: Split = "test") -> dict[str, Answers]:
    """Collects the answers of the fine-tuned policy, as `sft`, and of these runs' policies to the posts of a split.

    Raises:
      ConfigError: a stage that this builds on is missing.
    """
    source = find_policy_folder(context.config, context.workdir)
    tokenizer, reference = Tokenizer.from_folder(source), context.read(source)
    reward_decoder, reward_params = read_reward_model(context, tokenizer)
    answering = make_answering(context, context.decoder(reference.architecture), reward_decoder, tokenizer, split)
    frozen = Frozen(None, reference.params, reward_params)
    folders = {FINE_TUNED: source} | {name: find_model(context.workdir / "rl" / name) for name in names}
    return {
        name: answering(context.read(folder).params, frozen, context.config.seed) for name, folder in folders.items()
    }


def compute_win_rates(answers: Mapping[str, Answers]) -> dict[str, dict[str, dict[str, float]]]:
    """Computes how often the first policy wins against the second, by their names: `plain`, `length_controlled`."""
    return {
        ours: {theirs: _compute_win_rates(answers[ours], answers[theirs]) for theirs in answers if theirs != ours}
        for ours in answers
    }


def _compute_win_rates(ours: Answers, theirs: Answers) -> dict[str, float]:
    won = compute_wins(ours.judged, theirs.judged)
    longer = (ours.lengths - theirs.lengths).astype(float)
    return {"plain": float(won.mean()), "length_controlled": compute_length_controlled_win_rate(won, longer)}

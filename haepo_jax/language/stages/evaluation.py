"""Evaluation of the policies of a work folder: each answers the same test posts and is judged by the same means."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from haepo_jax.language.config import LanguageConfig, has_reward_model
from haepo_jax.language.data import corpus
from haepo_jax.language.data.corpus import Split
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.stages.answering import Answers, Sampling, compute_pass_rates, make_answering
from haepo_jax.language.stages.context import StageContext, make_context, remove_data_if_refused
from haepo_jax.language.stages.models import begins_with_first_model, find_policy_folder
from haepo_jax.language.stages.reward import read_reward_model
from haepo_jax.language.stages.rl import make_judge
from haepo_jax.language.stages.status import find_divergence, find_model, is_finished
from haepo_jax.language.stages.win_rates import compute_length_controlled_win_rate, compute_wins
from haepo_jax.language.training.rollout import Frozen
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import storage_errors, write_json
from haepo_jax.runtime.precision import computing_products
from haepo_jax.text import visible

FINE_TUNED = "sft"
"""The fine-tuned policy, among the names of runs."""
FIRST_MODEL = "model.path"
"""The model of `config.model.path` there, where no fine-tuning came before `rl`."""


def evaluate(config: LanguageConfig, workdir: StrPath) -> dict[str, Any]:
    """Judges the policy that `rl` begins with and all finished runs of `WORKDIR/rl`; writes `WORKDIR/evaluation.json`.

    Runs that diverged are left out, with a word.

    Args:
      config: the settings; its seed draws the answers.
      workdir: holds the folders of all stages.

    Returns:
      What is written. For each policy the means over all answers of `reward` (by reward functions and the reward
      model), `reward/NAME` (of each function), `reference_kl` (nats a response), `length` (tokens) and `ended`, on the
      generated task of `gold`, and `pass@k` of each function whose rewards are all 0 or 1; and for each two policies
      how often the first wins, plainly and with length controlled, judged by gold or else by the reward.

    Raises:
      ConfigError: a stage that this builds on is missing, there is nothing to judge by, or a reward function fails.
      StorageError: the result could not be written.
    """
    workdir = Path(workdir)
    with remove_data_if_refused(workdir):
        context = make_context(config, workdir)
        answers = collect_answers(context, list_finished_runs(workdir))
    first, samples = next(iter(answers.values())), config.evaluation.num_samples
    result = {
        "judge": _name_judge(context),
        "posts": len(first.lengths) // samples,
        "policies": {name: given.means() | _list_pass_rates(given, samples) for name, given in answers.items()},
        "win_rates": compute_win_rates(answers),
    }
    if samples > 1 or config.evaluation.temperature is not None:
        temperature = config.evaluation.temperature
        result |= {
            "samples": samples,
            "temperature": config.rl.temperature if temperature is None else temperature,
        }
    with storage_errors(workdir):
        write_json(workdir / "evaluation.json", result)
    return result


def _name_judge(context: StageContext) -> str:
    if context.generated:
        return "gold"
    functions = ["reward functions"] if context.config.rl.rewards else []
    return " and ".join([*functions, *(["reward model"] if has_reward_model(context.config) else [])])


def _list_pass_rates(given: Answers, num_samples: int) -> dict[str, dict[str, float]]:
    """Lists the pass rates of each reward function whose rewards are all 0 or 1."""
    rates = {name: compute_pass_rates(rewards, num_samples) for name, rewards in given.by_function.items()}
    found = {name: rate for name, rate in rates.items() if rate is not None}
    return {"pass_rates": found} if found else {}  # type: ignore[dict-item]


def list_finished_runs(workdir: StrPath) -> list[str]:
    """Lists the finished runs of stage `rl` by name; leaves out those that diverged, and prints them."""
    folders = [folder for folder in sorted((Path(workdir) / "rl").glob("*")) if is_finished(folder)]
    for folder in folders:
        if (update := find_divergence(folder)) is not None:
            print(f"Leaves out {visible(folder.name)}, which diverged at update {update}.", file=sys.stderr)
    return [folder.name for folder in folders if find_divergence(folder) is None]


def collect_answers(context: StageContext, names: Iterable[str], split: Split = "test") -> dict[str, Answers]:
    """Collects the answers of the policy that `rl` begins with, and of these runs' policies to the prompts of a split.

    That policy comes first, as `sft` or `model.path`.

    Raises:
      ConfigError: a stage that this builds on is missing, or there is nothing to judge by.
    """
    with computing_products(context.config.precision):
        return _collect_answers(context, names, split)


def _collect_answers(context: StageContext, names: Iterable[str], split: Split) -> dict[str, Answers]:
    config = context.config
    source = find_policy_folder(config, context.workdir)
    name = FIRST_MODEL if begins_with_first_model(config, context.workdir) else FINE_TUNED
    tokenizer, reference = Tokenizer.from_folder(source), context.read(source)
    reward_decoder = reward_params = None
    if has_reward_model(config):
        reward_decoder, reward_params = read_reward_model(context, tokenizer)
    prompts = corpus.read_prompts(config.data, tokenizer, split)
    answering = make_answering(
        context,
        context.decoder(reference.architecture),
        reward_decoder,
        tokenizer,
        prompts,
        make_judge(config, prompts),
        Sampling(config.evaluation.num_samples, config.evaluation.temperature),
    )
    frozen = Frozen(None, reference.params, reward_params)
    folders = {name: source} | {name: find_model(context.workdir / "rl" / name) for name in names}
    return {name: answering(context.read(folder).params, frozen, config.seed) for name, folder in folders.items()}


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

"""How good the policies of a work folder are: each answers the same held-out posts and is judged by the same means."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from haepo_jax.language import corpus
from haepo_jax.language.assembly import Setting, make_setting, policy_folder
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.generated_task import gold_reward
from haepo_jax.language.prompts import prompt_format
from haepo_jax.language.reward import rewards
from haepo_jax.language.sampling import sample, with_prompts
from haepo_jax.language.scoring import Prompts, response_log_probs
from haepo_jax.language.stages import read_reward_model
from haepo_jax.language.tokens import Tokenizer
from haepo_jax.language.win_rates import length_controlled_win_rate, wins
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.run_folder import is_complete, storage_errors, write_json

Params = Any
_BATCH = 64


class Answers(NamedTuple):
    """What a policy answers to N held-out posts, one sample each, and how that is judged."""

    texts: tuple[str, ...]
    lengths: np.ndarray
    """`[N]` tokens, end-of-sequence included."""
    ended: np.ndarray
    """`[N]` boolean."""
    reference_kl: np.ndarray
    """`[N]` log pi - log pi_sft of the answer, in nats; its mean is the KL divergence to the fine-tuned policy."""
    reward: np.ndarray
    """`[N]` by the reward model."""


def evaluate(config: LanguageConfig, workdir: Path) -> dict[str, Any]:
    """Judges the fine-tuned policy and every complete run of `WORKDIR/rl`; writes `WORKDIR/evaluation.json`.

    Args:
      config: the settings; its seed draws the answers.
      workdir: holds the folders of all stages.

    Returns:
      What is written. For each policy the means over the held-out posts of `reward` (by the reward model), of
      `reference_kl` (nats a response), `length` (tokens) and `ended`, and on the generated task of `gold`; and for
      each two policies how often the first wins, plainly and with length controlled, judged by gold or else by the
      reward model.

    Raises:
      ConfigError: a stage that this builds on is missing.
      StorageError: the result could not be written.
    """
    setting = make_setting(config, workdir)
    folders = {"sft": policy_folder(config, workdir)}
    folders |= {path.name: path / "model" for path in sorted((workdir / "rl").glob("*")) if is_complete(path)}
    answering = make_answering(setting)
    answers = {name: answering(folder, config.seed) for name, folder in folders.items()}
    gold = {} if config.data.demonstrations else _gold(setting, answers)
    judged = gold or {name: given.reward for name, given in answers.items()}
    result = {
        "judge": "gold" if gold else "reward model",
        "posts": len(next(iter(answers.values())).texts),
        "policies": {
            name: {
                **({"gold": float(gold[name].mean())} if gold else {}),
                "reward": float(given.reward.mean()),
                "reference_kl": float(given.reference_kl.mean()),
                "length": float(given.lengths.mean()),
                "ended": float(given.ended.mean()),
            }
            for name, given in answers.items()
        },
        "win_rates": {
            ours: {theirs: _win_rates(answers, judged, ours, theirs) for theirs in answers if theirs != ours}
            for ours in answers
        },
    }
    with storage_errors(workdir):
        write_json(workdir / "evaluation.json", result)
    return result


def _gold(setting: Setting, answers: Mapping[str, Answers]) -> dict[str, np.ndarray]:
    prompts = [row.prompt for row in corpus.completions(setting.config.data, held_out=True)]
    return {
        name: np.array([gold_reward(prompt, text) for prompt, text in zip(prompts, given.texts, strict=True)])
        for name, given in answers.items()
    }


def _win_rates(
    answers: Mapping[str, Answers], judged: Mapping[str, np.ndarray], ours: str, theirs: str
) -> dict[str, float]:
    won = wins(judged[ours], judged[theirs])
    longer = (answers[ours].lengths - answers[theirs].lengths).astype(float)
    return {"plain": float(won.mean()), "length_controlled": length_controlled_win_rate(won, longer)}


def make_answering(setting: Setting) -> Callable[[Path, int], Answers]:
    """`(folder of a policy, seed) -> answers` to the held-out posts, at the temperature of training.

    The reference policy and the reward model are those of the work folder. The compiled program is the same for
    all policies.
    """
    config, texts = setting.config, prompt_format(setting.config.data.prompt)
    source = policy_folder(config, setting.workdir)
    tokenizer, reference = Tokenizer.from_folder(source), setting.read(source)
    reward_decoder, reward_params = read_reward_model(setting, tokenizer)
    decoder = setting.decoder(reference.architecture)
    queries = corpus.queries(config.data, tokenizer, held_out=True)

    @jax.jit
    def answer(
        params: Params, frozen: tuple[Params, Params], prompts: Prompts, key: jax.Array
    ) -> tuple[jax.Array, ...]:
        reference_params, reward_params = frozen
        samples = sample(
            decoder,
            params,
            prompts.tokens,
            prompts.valid,
            key,
            response_length=texts.response_length,
            temperature=config.rl.temperature,
            top_p=config.rl.top_p,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
        )
        sequences = with_prompts(prompts.tokens, prompts.valid, samples)
        score = functools.partial(
            response_log_probs, response_length=texts.response_length, temperature=config.rl.temperature
        )
        reference_log_probs = score(decoder, reference_params, sequences)
        kl = trajectory_log_likelihood(samples.log_probs - reference_log_probs, where=samples.valid)
        reward = rewards(
            reward_decoder,
            reward_params,
            sequences,
            response_length=texts.response_length,
            pooling=config.reward.pooling,
        )
        return samples.tokens, samples.valid.sum(axis=-1), samples.ended, kl, reward

    def answers(folder: Path, seed: int) -> Answers:
        params = setting.read(folder).params
        count = len(queries.tokens)
        parts = []
        for number, at in enumerate(range(0, count, _BATCH)):
            rows = np.arange(at, at + _BATCH) % count  # the last batch is filled up with the first posts
            batch = setting.place(Prompts(queries.tokens[rows], queries.valid[rows]))
            parts.append(
                answer(
                    params, (reference.params, reward_params), batch, jax.random.fold_in(jax.random.key(seed), number)
                )
            )
        tokens, lengths, ended, kl, reward = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
        return Answers(tuple(map(tokenizer.decode_response, tokens)), lengths, ended, kl, reward)

    return answers

"""Answers of a policy to held-out prompts, and how good they are: during a run and of finished policies."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from haepo_jax.language.data import corpus
from haepo_jax.language.data.buckets import find_width, trim
from haepo_jax.language.data.corpus import PromptSet
from haepo_jax.language.data.generated_task import compute_gold_reward
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.rewards.judge import Judge
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.judged_update import ask_about
from haepo_jax.language.training.rollout import Frozen, Rollout, make_rollout
from haepo_jax.language.training.scoring import Prompts
from haepo_jax.types import Params


class Answers(NamedTuple):
    """Answers to N prompts, as many to each, those of a prompt adjacent; and how they are judged."""

    lengths: np.ndarray
    """`[N x samples]` tokens, end-of-sequence included."""
    ended: np.ndarray
    """`[N x samples]` boolean."""
    reference_kl: np.ndarray
    """`[N x samples]` log pi - log pi_ref of the answer, in nats; its mean is the KL divergence to the policy that
    learning begins with."""
    reward: np.ndarray | None
    """`[N x samples]` by reward functions and the reward model, where there are such."""
    gold: np.ndarray | None
    """`[N x samples]` by the program, on the generated task."""
    by_function: Mapping[str, np.ndarray] = MappingProxyType({})
    """`[N x samples]` by each reward function, under its short name."""

    @property
    def judged(self) -> np.ndarray:
        """`[N x samples]` by gold, or else by the reward."""
        judged = self.reward if self.gold is None else self.gold
        assert judged is not None
        return judged

    def means(self) -> dict[str, float]:
        """Computes means by name: `gold` and `reward` where there are such, `reward/NAME` of each reward function,
        `reference_kl`, `length` and `ended`.
        """
        judged = {"gold": self.gold, "reward": self.reward}
        judged |= {f"reward/{name}": values for name, values in self.by_function.items()}
        means = {"reference_kl": self.reference_kl, "length": self.lengths, "ended": self.ended}
        return {name: float(np.mean(values)) for name, values in (judged | means).items() if values is not None}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How policies answer."""

    num_samples: int = 1
    """Answers to each prompt."""
    temperature: float | None = None
    """That of training where None; 0 takes the likeliest token each time, with log-probabilities at temperature 1."""


def make_answering(
    context: StageContext,
    decoder: Decoder,
    reward_decoder: Decoder | None,
    tokenizer: Tokenizer,
    prompts: PromptSet,
    judge: Judge,
    sampling: Sampling = Sampling(),
) -> Callable[[Params, Frozen, int], Answers]:
    """Makes `(parameters, frozen, seed) -> answers` to prompts.

    The compiled program is the same for all policies of one shape, and the same seed draws the same random numbers
    for all of them. A batch is judged by reward functions while the devices answer the next.
    """
    config = context.config
    if sampling.temperature is not None:
        temperature = sampling.temperature or 1.0
        config = dataclasses.replace(config, rl=dataclasses.replace(config.rl, temperature=temperature))
    texts = corpus.get_format(config.data)
    rollout = jax.jit(
        make_rollout(
            config,
            decoder,
            reward_decoder,
            tokenizer,
            num_samples=sampling.num_samples,
            response_length=texts.response_length,
            greedy=sampling.temperature == 0,
        )
    )
    own = corpus.has_own_prompts(config.data)
    count, size = len(prompts.rows), context.held_out_rows

    def place(rows: np.ndarray) -> Prompts:
        tokens, valid = (array[rows] for array in prompts.prompts)
        width = find_width(valid, texts.query_length) if own else texts.query_length
        return context.place(Prompts(*(trim(array, texts.query_length, width) for array in (tokens, valid))))

    def read(rows: np.ndarray, answered: Rollout) -> Answers:
        given: Any = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(rows) * sampling.num_samples], answered)
        asked = ask_about([prompts.rows[row] for row in rows], given.samples, tokenizer)
        by_function = judge.ask(asked).wait()
        reward = given.reward
        if by_function:
            total = judge.add_up(by_function).astype(np.float32)
            reward = total if reward is None else total + reward
        gold = None
        if context.generated:
            gold = np.array([compute_gold_reward(one.prompt, answer) for one in asked for answer in one.completions])
        lengths = given.samples.valid.sum(axis=-1)
        return Answers(lengths, given.samples.ended, given.drift, reward, gold, by_function)

    def answers(params: Params, frozen: Frozen, seed: int) -> Answers:
        parts: list[Answers] = []
        ahead: list[tuple[np.ndarray, Rollout]] = []
        for number, at in enumerate(range(0, count, size)):
            rows = np.arange(at, min(at + size, count))
            filled = np.arange(at, at + size) % count  # the last batch, with the first prompts; those are not read
            key = jax.random.fold_in(jax.random.key(seed), number)
            ahead.append((rows, rollout(params, frozen, place(filled), key)))
            if len(ahead) > 1:
                parts.append(read(*ahead.pop(0)))
        parts += [read(*last) for last in ahead]
        joined: Answers = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        return joined

    return answers


def compute_pass_rates(rewards: np.ndarray, num_samples: int) -> dict[str, float] | None:
    """Computes pass@k, the chance that one of k answers to a prompt is right, for k = 1, 2, 4 and so on.

    The estimate is without bias: of n answers of which c are right, 1 - C(n - c, k) / C(n, k).

    Args:
      rewards: `[prompts x samples]`, those of a prompt adjacent.
      num_samples: n, answers to each prompt.

    Returns:
      By `pass@1` and so on up to n; None where a reward is neither 0 nor 1.

    Source: Chen et al. (2021), "Evaluating large language models trained on code", equation 1.

    Example:
      >>> compute_pass_rates(np.array([1.0, 0.0, 0.0, 0.0]), 4)
      {'pass@1': 0.25, 'pass@2': 0.5, 'pass@4': 1.0}
    """
    if not np.isin(rewards, (0.0, 1.0)).all():
        return None
    right = rewards.reshape(-1, num_samples).sum(axis=-1)
    sizes = dict.fromkeys([*(2**power for power in range(num_samples.bit_length())), num_samples])
    return {f"pass@{k}": float(np.mean([_pass_rate(num_samples, int(c), k) for c in right])) for k in sizes}


def _pass_rate(n: int, c: int, k: int) -> float:
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

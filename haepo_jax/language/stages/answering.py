"""Answers of a policy to held-out posts, and how good they are: during a run and of finished policies."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from haepo_jax.language.data import corpus
from haepo_jax.language.data.corpus import Split
from haepo_jax.language.data.generated_task import compute_gold_reward
from haepo_jax.language.data.prompts import get_prompt_format
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.training.rollout import Frozen, make_rollout
from haepo_jax.language.training.scoring import Prompts
from haepo_jax.types import Params


class Answers(NamedTuple):
    """One sampled answer to each of N posts, and how it is judged."""

    lengths: np.ndarray
    """`[N]` tokens, end-of-sequence included."""
    ended: np.ndarray
    """`[N]` boolean."""
    reference_kl: np.ndarray
    """`[N]` log pi - log pi_sft of the answer, in nats; its mean is the KL divergence to the fine-tuned policy."""
    reward: np.ndarray | None
    """`[N]` by the reward model, where there is one."""
    gold: np.ndarray | None
    """`[N]` by the program, on the generated task."""

    @property
    def judged(self) -> np.ndarray:
        """`[N]` by gold, or else by the reward model."""
        judged = self.reward if self.gold is None else self.gold
        assert judged is not None
        return judged

    def means(self) -> dict[str, float]:
        """Computes means by name: `gold` and `reward` where there are such, `reference_kl`, `length` and `ended`."""
        means = {"reference_kl": self.reference_kl, "length": self.lengths, "ended": self.ended}
        judged = {"gold": self.gold, "reward": self.reward}
        return {name: float(np.mean(values)) for name, values in (judged | means).items() if values is not None}


def make_answering(
    context: StageContext, decoder: Decoder, reward_decoder: Decoder | None, tokenizer: Tokenizer, split: Split
) -> Callable[[Params, Frozen, int], Answers]:
    """Makes `(parameters, frozen, seed) -> answers` to the posts of a split, at the temperature of training.

    The compiled program is the same for all policies of one shape, and the same seed draws the same random numbers
    for all of them.
    """
    texts = get_prompt_format(context.config.data.prompt)
    rollout = jax.jit(
        make_rollout(
            context.config,
            decoder,
            reward_decoder,
            tokenizer,
            num_samples=1,
            response_length=texts.response_length,
        )
    )
    queries = corpus.read_queries(context.config.data, tokenizer, split)
    posts = [row.prompt for row in corpus.read_completions(context.config.data, split)]

    def answers(params: Params, frozen: Frozen, seed: int) -> Answers:
        count, size, parts = len(posts), context.held_out_rows, []
        for number, at in enumerate(range(0, count, size)):
            rows = np.arange(at, at + size) % count  # the last batch is filled up with the first posts
            batch = context.place(Prompts(queries.tokens[rows], queries.valid[rows]))
            given = rollout(params, frozen, batch, jax.random.fold_in(jax.random.key(seed), number))
            samples = given.samples
            judged = Answers(samples.valid.sum(axis=-1), samples.ended, given.drift, given.reward, None)
            parts.append((samples.tokens, judged))
        tokens, judged = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
        if not context.generated:
            return judged
        decoded = map(tokenizer.decode_response, tokens)
        gold = np.array([compute_gold_reward(post, answer) for post, answer in zip(posts, decoded, strict=True)])
        return judged._replace(gold=gold)

    return answers

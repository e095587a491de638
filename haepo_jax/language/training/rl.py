"""Learning from rewards: responses are sampled, rewarded, and learned from.

Where the reward model alone judges, all of that is one compiled update. Where programs judge, it is three, `Phases`,
between which the host computes rewards.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.group_update import Experience, make_learn, make_score
from haepo_jax.language.training.learner import LearnerState, Update, whole
from haepo_jax.language.training.rollout import (
    Frozen,
    Rollout,
    Sampled,
    Scores,
    join_scores,
    make_rollout,
    make_sampler,
    make_scorer,
)
from haepo_jax.language.training.sampling import Samples
from haepo_jax.language.training.scoring import Prompts
from haepo_jax.losses import varied_groups
from haepo_jax.types import Metrics, Params


class Phases(NamedTuple):
    """An update in three programs."""

    sample: Callable[[Params, Frozen, jax.Array, jax.Array, Prompts], Sampled]
    """`(trained, frozen, key of the learner, number of the part, prompts) -> sampled`."""
    score: Callable[[Frozen, Sampled], Scores]
    learn: Callable[
        [LearnerState, Frozen, Sequence[Sampled], Sequence[Scores], jax.Array], tuple[LearnerState, Metrics]
    ]
    """`(learner, frozen, sampled of all parts, scores of all parts, rewards [N]) -> (learner, metrics)`; the rewards
    are those of programs, beside those of the reward model. The metrics are those of `make_update`."""


def make_update(
    config: LanguageConfig, decoder: Decoder, reward_decoder: Decoder, tokenizer: Tokenizer, *, response_length: int
) -> Update:
    """Makes an update by any method that samples, on `Prompts`, with the rewards of the reward model.

    Args:
      config: the settings; `config.rl.gradient` must be decided.
      decoder: of the policy.
      reward_decoder: of the reward model, which shares the tokenizer.
      tokenizer: gives end-of-sequence and padding.
      response_length: R.

    Returns:
      The `Update`. Metrics beside those of learning: `reward` (before penalties), `reference_kl` (nats a response, NaN
      with `top_p`), `response_length`, `ended` (share of responses) and `policy_entropy` (nats a token); with
      `rl.filter_groups` or `rl.mask_truncated` also `counted` (share of responses that the loss counts).
    """
    rollout = make_rollout(
        config, decoder, reward_decoder, tokenizer, num_samples=config.rl.num_samples, response_length=response_length
    )
    learn_from = _make_learn_from(config, decoder, response_length)

    def update(learner: LearnerState, frozen: Frozen, prompts: Prompts) -> tuple[LearnerState, Metrics]:
        key, rollout_key = jax.random.split(learner.key)
        given = rollout(whole(frozen.base, learner.trained), frozen, prompts, rollout_key)
        assert given.reward is not None
        return learn_from(learner, frozen, given, given.reward, key)

    return update


def make_phases(
    config: LanguageConfig,
    decoder: Decoder,
    reward_decoder: Decoder | None,
    tokenizer: Tokenizer,
    *,
    response_length: int,
) -> Phases:
    """Makes the update of `make_update` in parts; arguments as there, `reward_decoder` None without a reward model."""
    sampled_from = make_sampler(
        config, decoder, tokenizer, num_samples=config.rl.num_samples, response_length=response_length
    )
    score = make_scorer(config, decoder, reward_decoder, response_length=response_length)
    learn_from = _make_learn_from(config, decoder, response_length)

    def sample(trained: Params, frozen: Frozen, key: jax.Array, part: jax.Array, prompts: Prompts) -> Sampled:
        _, rollout_key = jax.random.split(key)
        return sampled_from(whole(frozen.base, trained), prompts, jax.random.fold_in(rollout_key, part))

    def learn(
        learner: LearnerState,
        frozen: Frozen,
        sampled: Sequence[Sampled],
        scores: Sequence[Scores],
        rewards: jax.Array,
    ) -> tuple[LearnerState, Metrics]:
        key, _ = jax.random.split(learner.key)
        parts = [join_scores(one, of) for one, of in zip(sampled, scores, strict=True)]
        given: Rollout = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        total = rewards if given.reward is None else rewards + given.reward
        return learn_from(learner, frozen, given, total, key)

    return Phases(sample, score, learn)


def _make_learn_from(
    config: LanguageConfig, decoder: Decoder, response_length: int
) -> Callable[[LearnerState, Frozen, Rollout, jax.Array, jax.Array], tuple[LearnerState, Metrics]]:
    """Makes `(learner, frozen, rollout, rewards [N], next key) -> (learner, metrics)`."""
    rl = config.rl
    learn = make_learn(config, decoder, response_length, score=make_score(config, response_length))

    def learn_from(
        learner: LearnerState, frozen: Frozen, given: Rollout, reward: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        samples, sequences, reference, drift, _ = given
        returns = reward - rl.missing_eos_penalty * ~samples.ended
        if rl.kl_penalty > 0:
            returns -= rl.kl_penalty * drift
        counts = _find_counted(config, samples, reward)
        experience = Experience(sequences, reference, samples.log_probs, returns, counts)
        learner, metrics = learn(learner, frozen.base, experience)
        metrics |= _described(samples) | {"reward": jnp.mean(reward), "reference_kl": jnp.mean(drift)}
        if counts is not None:
            metrics["counted"] = jnp.mean(counts, dtype=jnp.float32)
        return dataclasses.replace(learner, key=key, updates_done=learner.updates_done + 1), metrics

    return learn_from


def _find_counted(config: LanguageConfig, samples: Samples, reward: jax.Array) -> jax.Array | None:
    """Finds the responses that the loss counts, `[N]` boolean; None where it counts all."""
    rl = config.rl
    if not (rl.filter_groups or rl.mask_truncated):
        return None
    counts = samples.ended if rl.mask_truncated else jnp.ones_like(samples.ended)
    if rl.filter_groups:
        varied = varied_groups(reward.reshape(-1, rl.num_samples))
        counts &= jnp.repeat(varied, rl.num_samples)
    return counts


def _described(samples: Samples) -> Metrics:
    count = jnp.sum(samples.valid, dtype=jnp.int32)
    return {
        "response_length": jnp.mean(jnp.sum(samples.valid, axis=-1), dtype=jnp.float32),
        "ended": jnp.mean(samples.ended, dtype=jnp.float32),
        "policy_entropy": jnp.sum(samples.entropy) / count,
        "tokens": count,
    }

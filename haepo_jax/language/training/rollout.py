"""Responses sampled and judged: what the policy answers, how likely that is to the reference, and its reward."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.gradients import map_in_microbatches
from haepo_jax.language.training.group_update import Score, make_score
from haepo_jax.language.training.reward import compute_rewards
from haepo_jax.language.training.sampling import Samples, append_to_prompts, sample
from haepo_jax.language.training.scoring import Prompts, Sequences
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.types import Params


class Frozen(NamedTuple):
    """Parameters that are read and not changed."""

    base: Params | None
    """The parameters that the adapter adapts; None where all parameters are trained."""
    reference: Params | None
    """Of the reference policy, for the decoder without adapter; None where that is `base`."""
    reward: Params | None
    """Of the reward model; None where there is none."""


class Rollout(NamedTuple):
    """N = prompts x samples responses, those of a prompt adjacent."""

    samples: Samples
    sequences: Sequences
    """`[N, P + R]`, with their prompts."""
    reference_log_probs: jax.Array
    """`[N, R]` under the reference policy, in nats."""
    drift: jax.Array
    """`[N]` log pi - log pi_ref of the response, in nats; its mean is the KL divergence to the reference. NaN where
    `top_p` cuts the policy, as it is not the policy's mean then."""
    reward: jax.Array | None
    """`[N]` by the reward model, before penalties; None where there is no reward model."""


class Sampled(NamedTuple):
    """N = prompts x samples responses, those of a prompt adjacent."""

    samples: Samples
    sequences: Sequences
    """`[N, P + R]`, with their prompts."""


class Scores(NamedTuple):
    """Of the responses that were sampled; see `Rollout`."""

    reference_log_probs: jax.Array
    drift: jax.Array
    reward: jax.Array | None


def join_scores(sampled: Sampled, scores: Scores) -> Rollout:
    """Joins responses and their scores."""
    return Rollout(sampled.samples, sampled.sequences, scores.reference_log_probs, scores.drift, scores.reward)


def make_rollout(
    config: LanguageConfig,
    decoder: Decoder,
    reward_decoder: Decoder | None,
    tokenizer: Tokenizer,
    *,
    num_samples: int,
    response_length: int,
    greedy: bool = False,
) -> Callable[[Params, Frozen, Prompts, jax.Array], Rollout]:
    """Makes `(parameters, frozen, prompts, key) -> rollout`, at the temperature of training.

    It is `make_sampler`, then `make_scorer`, whose arguments it takes.
    """
    sampled_from = make_sampler(
        config, decoder, tokenizer, num_samples=num_samples, response_length=response_length, greedy=greedy
    )
    score = make_scorer(config, decoder, reward_decoder, response_length=response_length)

    def rollout(params: Params, frozen: Frozen, prompts: Prompts, key: jax.Array) -> Rollout:
        sampled = sampled_from(params, prompts, key)
        return join_scores(sampled, score(frozen, sampled))

    return rollout


def make_sampler(
    config: LanguageConfig,
    decoder: Decoder,
    tokenizer: Tokenizer,
    *,
    num_samples: int,
    response_length: int,
    greedy: bool = False,
) -> Callable[[Params, Prompts, jax.Array], Sampled]:
    """Makes `(parameters, prompts, key) -> sampled`.

    Args:
      config: the settings.
      decoder: of the policy.
      tokenizer: gives end-of-sequence and padding.
      num_samples: responses to each prompt.
      response_length: R.
      greedy: whether each token is the likeliest one.
    """
    rl = config.rl

    def sampled_from(params: Params, prompts: Prompts, key: jax.Array) -> Sampled:
        samples = sample(
            decoder,
            params,
            prompts.tokens,
            prompts.valid,
            key,
            num_samples=num_samples,
            response_length=response_length,
            temperature=rl.temperature,
            top_p=rl.top_p,
            eos_ids=tokenizer.eos_ids,
            pad_id=tokenizer.pad_id,
            greedy=greedy,
        )
        return Sampled(samples, append_to_prompts(prompts.tokens, prompts.valid, samples))

    return sampled_from


def make_scorer(
    config: LanguageConfig, decoder: Decoder, reward_decoder: Decoder | None, *, response_length: int
) -> Callable[[Frozen, Sampled], Scores]:
    """Makes `(frozen, sampled) -> scores`.

    Args:
      config: the settings.
      decoder: of the policy.
      reward_decoder: of the reward model, which shares the tokenizer; None where there is none.
      response_length: R.
    """
    rl = config.rl
    reference_log_probs = make_reference(config, decoder, score=make_score(config, response_length))

    def reward_of(frozen: Frozen, sequences: Sequences) -> jax.Array | None:
        if reward_decoder is None:
            return None
        return map_in_microbatches(
            lambda rows: compute_rewards(
                reward_decoder, frozen.reward, rows, response_length=response_length, pooling=config.reward.pooling
            ),
            sequences,
            rl.microbatch,
        )

    def score(frozen: Frozen, sampled: Sampled) -> Scores:
        samples, sequences = sampled
        reference = reference_log_probs(frozen, sequences)
        drift = trajectory_log_likelihood(samples.log_probs - reference, where=samples.valid)
        if rl.top_p < 1.0:  # the samples are not the policy's
            drift = jnp.full_like(drift, jnp.nan)
        return Scores(reference, drift, reward_of(frozen, sequences))

    return score


def make_reference(
    config: LanguageConfig, decoder: Decoder, *, score: Score
) -> Callable[[Frozen, Sequences], jax.Array]:
    """Makes `(frozen, sequences) -> log-probabilities [B, R]` under the reference policy, a microbatch at a time."""
    plain = decoder.clone(adapter=None)

    def reference(frozen: Frozen, sequences: Sequences) -> jax.Array:
        params = frozen.base if frozen.reference is None else frozen.reference
        return map_in_microbatches(lambda rows: score(plain, params, rows), sequences, config.rl.microbatch)

    return reference

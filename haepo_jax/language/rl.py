"""Learning from a reward model: responses are sampled, rewarded, and learned from, in one compiled update."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.decoder import Decoder
from haepo_jax.language.gradients import in_microbatches
from haepo_jax.language.learner import Learner, whole
from haepo_jax.language.learning import Experience, Score, make_learn, make_score
from haepo_jax.language.reward import rewards
from haepo_jax.language.sampling import Samples, sample, with_prompts
from haepo_jax.language.scoring import Prompts, Sequences
from haepo_jax.language.tokens import Tokenizer
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.objectives import Metrics

Params = Any


class Frozen(NamedTuple):
    """Parameters that an update reads and does not change."""

    base: Params | None
    """What the adapter adapts; None where all parameters are trained."""
    reference: Params | None
    """Of the reference policy, for the decoder without adapter; None where that is `base`."""
    reward: Params | None
    """Of the reward model; None for DPO."""


Update = Callable[[Learner, Frozen, Any], tuple[Learner, Metrics]]
"""`(learner, frozen, batch) -> (learner, metrics)`; metrics are scalars, `tokens` (of responses) among them."""


def make_update(
    config: LanguageConfig, decoder: Decoder, reward_decoder: Decoder, tokenizer: Tokenizer, *, response_length: int
) -> Update:
    """An update of HAEPO, GRPO or RLOO, on `Prompts`.

    Args:
      config: the settings; `config.rl.gradient` must be decided.
      decoder: of the policy.
      reward_decoder: of the reward model, which shares the tokenizer.
      tokenizer: gives end-of-sequence and padding.
      response_length: R.

    Returns:
      The `Update`. Metrics beside those of learning: `reward` (before penalties), `reference_kl` (nats a response),
      `response_length`, `ended` (share of responses) and `policy_entropy` (nats a token).
    """
    rl, score = config.rl, make_score(config, response_length)
    reference_log_probs = make_reference(config, decoder, score=score)
    learn = make_learn(config, decoder, response_length, score=score)

    def reward_of(frozen: Frozen, sequences: Sequences) -> jax.Array:
        return in_microbatches(
            lambda rows: rewards(
                reward_decoder, frozen.reward, rows, response_length=response_length, pooling=config.reward.pooling
            ),
            sequences,
            rl.microbatch,
        )

    def update(learner: Learner, frozen: Frozen, prompts: Prompts) -> tuple[Learner, Metrics]:
        key, sample_key = jax.random.split(learner.key)
        samples = sample(
            decoder,
            whole(frozen.base, learner.trained),
            prompts.tokens,
            prompts.valid,
            sample_key,
            num_samples=rl.num_samples,
            response_length=response_length,
            temperature=rl.temperature,
            top_p=rl.top_p,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
        )
        sequences = with_prompts(prompts.tokens, prompts.valid, samples)
        reference, reward = reference_log_probs(frozen, sequences), reward_of(frozen, sequences)
        drift = trajectory_log_likelihood(samples.log_probs - reference, where=samples.valid)
        returns = reward - rl.missing_eos_penalty * ~samples.ended - rl.kl_penalty * drift
        experience = Experience(sequences, reference, samples.log_probs, returns)
        learner, metrics = learn(learner, frozen.base, experience)
        metrics |= _described(samples) | {"reward": jnp.mean(reward), "reference_kl": jnp.mean(drift)}
        return dataclasses.replace(learner, key=key, updates_done=learner.updates_done + 1), metrics

    return update


def make_reference(
    config: LanguageConfig, decoder: Decoder, *, score: Score
) -> Callable[[Frozen, Sequences], jax.Array]:
    """`(frozen, sequences) -> log-probabilities [B, R]` under the reference policy, a microbatch at a time."""
    plain = decoder.clone(adapter=None)

    def reference(frozen: Frozen, sequences: Sequences) -> jax.Array:
        params = frozen.base if frozen.reference is None else frozen.reference
        return in_microbatches(lambda rows: score(plain, params, rows), sequences, config.rl.microbatch)

    return reference


def _described(samples: Samples) -> Metrics:
    count = jnp.sum(samples.valid, dtype=jnp.int32)
    return {
        "response_length": jnp.mean(jnp.sum(samples.valid, axis=-1), dtype=jnp.float32),
        "ended": jnp.mean(samples.ended, dtype=jnp.float32),
        "policy_entropy": jnp.sum(samples.entropy) / count,
        "tokens": count,
    }

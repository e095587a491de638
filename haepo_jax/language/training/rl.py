"""Learning from a reward model: responses are sampled, rewarded, and learned from, in one compiled update."""

import dataclasses

import jax
import jax.numpy as jnp

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.data.tokenizer import Tokenizer
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.group_update import Experience, make_learn, make_score
from haepo_jax.language.training.learner import LearnerState, Update, whole
from haepo_jax.language.training.rollout import Frozen, make_rollout
from haepo_jax.language.training.sampling import Samples
from haepo_jax.language.training.scoring import Prompts
from haepo_jax.types import Metrics


def make_update(
    config: LanguageConfig, decoder: Decoder, reward_decoder: Decoder, tokenizer: Tokenizer, *, response_length: int
) -> Update:
    """Makes an update of HAEPO, GRPO or RLOO, on `Prompts`.

    Args:
      config: the settings; `config.rl.gradient` must be decided.
      decoder: of the policy.
      reward_decoder: of the reward model, which shares the tokenizer.
      tokenizer: gives end-of-sequence and padding.
      response_length: R.

    Returns:
      The `Update`. Metrics beside those of learning: `reward` (before penalties), `reference_kl` (nats a response, NaN
      with `top_p`), `response_length`, `ended` (share of responses) and `policy_entropy` (nats a token).
    """
    rl = config.rl
    rollout = make_rollout(
        config, decoder, reward_decoder, tokenizer, num_samples=rl.num_samples, response_length=response_length
    )
    learn = make_learn(config, decoder, response_length, score=make_score(config, response_length))

    def update(learner: LearnerState, frozen: Frozen, prompts: Prompts) -> tuple[LearnerState, Metrics]:
        key, rollout_key = jax.random.split(learner.key)
        samples, sequences, reference, drift, reward = rollout(
            whole(frozen.base, learner.trained), frozen, prompts, rollout_key
        )
        assert reward is not None
        returns = reward - rl.missing_eos_penalty * ~samples.ended
        if rl.kl_penalty > 0:
            returns -= rl.kl_penalty * drift
        experience = Experience(sequences, reference, samples.log_probs, returns)
        learner, metrics = learn(learner, frozen.base, experience)
        metrics |= _described(samples) | {"reward": jnp.mean(reward), "reference_kl": jnp.mean(drift)}
        return dataclasses.replace(learner, key=key, updates_done=learner.updates_done + 1), metrics

    return update


def _described(samples: Samples) -> Metrics:
    count = jnp.sum(samples.valid, dtype=jnp.int32)
    return {
        "response_length": jnp.mean(jnp.sum(samples.valid, axis=-1), dtype=jnp.float32),
        "ended": jnp.mean(samples.ended, dtype=jnp.float32),
        "policy_entropy": jnp.sum(samples.entropy) / count,
        "tokens": count,
    }

"""Learning from given comparisons: offline, nothing is sampled and no reward model is asked."""

import dataclasses

import jax.numpy as jnp

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.group_update import Experience, make_learn, make_score
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.language.training.rollout import Frozen, make_reference
from haepo_jax.language.training.scoring import Sequences, flatten_comparisons
from haepo_jax.types import Metrics


def make_update(config: LanguageConfig, decoder: Decoder, *, response_length: int) -> Update:
    """Makes an update on comparisons, `Sequences` `[B, 2, P + R]` with the preferred response first.

    Args:
      config: the settings; `config.rl.gradient` must be decided.
      decoder: of the policy.
      response_length: R, of comparisons.

    Returns:
      The `Update`, with the metrics of learning.
    """
    score = make_score(config, response_length)
    reference_log_probs = make_reference(config, decoder, score=score)
    learn = make_learn(config, decoder, response_length, score=score)

    def update(learner: LearnerState, frozen: Frozen, comparisons: Sequences) -> tuple[LearnerState, Metrics]:
        rows = flatten_comparisons(comparisons)
        learner, metrics = learn(learner, frozen.base, Experience(rows, reference_log_probs(frozen, rows)))
        metrics |= {"tokens": jnp.sum(rows.valid[:, -response_length:], dtype=jnp.int32)}
        return dataclasses.replace(learner, updates_done=learner.updates_done + 1), metrics

    return update

"""Supervised fine-tuning: the likelihood of reference summaries."""

import jax
import jax.numpy as jnp
import optax

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.learner import Update, make_supervised_update, whole
from haepo_jax.language.training.scoring import Sequences, response_log_probs
from haepo_jax.optimizer import make_optimizer
from haepo_jax.types import Metrics, Params


def compute_nll(decoder: Decoder, params: Params, sequences: Sequences, *, response_length: int) -> jax.Array:
    """Computes the mean negative log-likelihood of the responses' tokens, in nats."""
    log_probs = response_log_probs(decoder, params, sequences, response_length=response_length)
    valid = sequences.valid[:, -response_length:]
    return -jnp.sum(jnp.where(valid, log_probs, 0)) / jnp.maximum(jnp.sum(valid), 1)


def make_optimizer_of(config: LanguageConfig) -> optax.GradientTransformation:
    """Makes the stage's optimiser."""
    return make_optimizer(config.sft.optimizer, config.sft.num_steps)


def make_update(config: LanguageConfig, decoder: Decoder, *, response_length: int) -> Update:
    """Makes an update `(learner, base, batch) -> (learner, metrics)`; metrics `loss`, `grad_norm`, `tokens`."""

    def loss(trained: Params, base: Params | None, batch: Sequences) -> tuple[jax.Array, Metrics]:
        return compute_nll(decoder, whole(base, trained), batch, response_length=response_length), {}

    return make_supervised_update(
        loss,
        lambda batch: jnp.sum(batch.valid[:, -response_length:], dtype=jnp.int32),
        make_optimizer_of(config),
    )

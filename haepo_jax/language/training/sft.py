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


def compute_nll(
    decoder: Decoder,
    params: Params,
    sequences: Sequences,
    *,
    response_length: int,
    where: jax.Array | None = None,
) -> jax.Array:
    """Computes the mean negative log-likelihood of the responses' tokens, in nats.

    `where` `[B]` is True for the responses that count; all do when it is None.
    """
    log_probs = response_log_probs(decoder, params, sequences, response_length=response_length)
    valid = _counted(sequences, response_length, where)
    return -jnp.sum(jnp.where(valid, log_probs, 0)) / jnp.maximum(jnp.sum(valid), 1)


def _counted(sequences: Sequences, response_length: int, where: jax.Array | None) -> jax.Array:
    """`[B, R]` boolean, True for the tokens that count."""
    valid = sequences.valid[:, -response_length:]
    return valid if where is None else valid & where[:, None]


def make_optimizer_of(config: LanguageConfig) -> optax.GradientTransformation:
    """Makes the stage's optimiser."""
    return make_optimizer(config.sft.optimizer, config.sft.num_steps)


def make_update(config: LanguageConfig, decoder: Decoder, *, response_length: int) -> Update:
    """Makes an update `(learner, base, batch) -> (learner, metrics)`; metrics `loss`, `grad_norm`, `tokens`."""

    def loss(
        trained: Params, base: Params | None, batch: Sequences, where: jax.Array | None
    ) -> tuple[jax.Array, Metrics]:
        params = whole(base, trained)
        return compute_nll(decoder, params, batch, response_length=response_length, where=where), {}

    def count(batch: Sequences, where: jax.Array | None = None) -> jax.Array:
        return jnp.sum(_counted(batch, response_length, where), dtype=jnp.int32)

    return make_supervised_update(loss, count, count, make_optimizer_of(config), microbatch=config.sft.microbatch)

"""Supervised fine-tuning: the likelihood of reference summaries."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.decoder import Decoder
from haepo_jax.language.learner import Learner, descend, whole
from haepo_jax.language.scoring import Sequences, response_log_probs
from haepo_jax.objectives import Metrics
from haepo_jax.optimizer import make_optimizer

Params = Any


def nll(decoder: Decoder, params: Params, sequences: Sequences, *, response_length: int) -> jax.Array:
    """Mean negative log-likelihood of the responses' tokens, in nats."""
    log_probs = response_log_probs(decoder, params, sequences, response_length=response_length)
    valid = sequences.valid[:, -response_length:]
    return -jnp.sum(jnp.where(valid, log_probs, 0)) / jnp.maximum(jnp.sum(valid), 1)


def make_optimizer_of(config: LanguageConfig) -> optax.GradientTransformation:
    """The stage's optimiser."""
    return make_optimizer(config.sft.optimizer, config.sft.num_steps)


def make_update(
    config: LanguageConfig, decoder: Decoder, *, response_length: int
) -> Callable[[Learner, Params | None, Sequences], tuple[Learner, Metrics]]:
    """`(learner, base, batch) -> (learner, metrics)`; the metrics are `loss`, `grad_norm` and `tokens`."""
    optimizer = make_optimizer_of(config)

    def update(learner: Learner, base: Params | None, batch: Sequences) -> tuple[Learner, Metrics]:
        def loss(trained: Params) -> jax.Array:
            return nll(decoder, whole(base, trained), batch, response_length=response_length)

        value, gradient = jax.value_and_grad(loss)(learner.trained)
        trained, optimizer_state = descend(learner.trained, learner.optimizer_state, gradient, optimizer)
        metrics = {
            "loss": value,
            "grad_norm": optax.tree.norm(gradient),
            "tokens": jnp.sum(batch.valid[:, -response_length:], dtype=jnp.int32),
        }
        return dataclasses.replace(
            learner, trained=trained, optimizer_state=optimizer_state, updates_done=learner.updates_done + 1
        ), metrics

    return update

"""Learning from a batch of responses that are given: every method's objective, for as many epochs as are asked for.

Responses lie in groups, those of a group adjacent; the objectives are those of the environments' algorithms.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.components import is_outside
from haepo_jax.language.config import (
    LanguageConfig,
    get_group_size,
    get_language_rules,
    get_method,
    get_method_settings,
    list_scheduled,
)
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.gradients import one_shot, two_pass
from haepo_jax.language.training.learner import LearnerState, descend, whole
from haepo_jax.language.training.scoring import Sequences, response_log_probs
from haepo_jax.losses import trajectory_log_likelihood
from haepo_jax.methods import Objective, StepGroup
from haepo_jax.methods.outside import hold_to_record
from haepo_jax.optimizer import make_optimizer
from haepo_jax.types import Metrics, Params


class Experience(NamedTuple):
    """N responses, and what was made of them before the first epoch."""

    sequences: Sequences
    """`[N, P + R]`."""
    reference_log_probs: jax.Array
    """`[N, R]` under the reference policy, in nats."""
    behaviour_log_probs: jax.Array | None = None
    """`[N, R]` as they were sampled, in nats; None for comparisons."""
    returns: jax.Array | None = None
    """`[N]` rewards with all penalties; None for comparisons, of which the first of two is preferred."""
    counts: jax.Array | None = None
    """`[N]` boolean, True for the responses that the loss counts; None where it counts all."""


Score = Callable[[Decoder, Params, Sequences], jax.Array]
"""`(decoder, parameters, sequences) -> log-probabilities [B, R]` of the responses' tokens, in nats."""
Learn = Callable[[LearnerState, Params | None, Experience], tuple[LearnerState, Metrics]]
"""`(learner, base, experience) -> (learner, metrics)`; with an adapter, `base` is what it adapts."""


def make_optimizer_of(config: LanguageConfig) -> optax.GradientTransformation:
    """Makes the optimiser of the stage `rl`."""
    return make_optimizer(config.rl.optimizer, config.rl.num_updates * config.rl.num_epochs)


def make_score(config: LanguageConfig, response_length: int) -> Score:
    """Scores responses at the temperature of sampling."""
    rl = config.rl

    def score(decoder: Decoder, params: Params, sequences: Sequences) -> jax.Array:
        return response_log_probs(
            decoder,
            params,
            sequences,
            response_length=response_length,
            temperature=rl.temperature,
            chunk_size=rl.chunk_size or None,
        )

    return score


def make_learn(config: LanguageConfig, decoder: Decoder, response_length: int, *, score: Score) -> Learn:
    """Makes the epochs on one batch.

    Args:
      config: the settings; `config.rl.gradient` must be decided.
      decoder: of the policy.
      response_length: R.
      score: how responses are scored, such as `make_score`'s.

    Returns:
      The `Learn`. Metrics: the objective's, `loss` and `grad_norm`, of the last epoch; and unless for comparisons
      `sampler_gap`, the largest difference in nats between a response's log-likelihood in sampling and in training,
      before the policy has moved; the coefficients that have a schedule as they are in this update.
    """
    rl, optimizer, settings = config.rl, make_optimizer_of(config), get_method_settings(config)
    scheduled = list_scheduled(config)
    factors = [of.make_factor(rl.num_updates) for of in scheduled]

    def learn(learner: LearnerState, base: Params | None, experience: Experience) -> tuple[LearnerState, Metrics]:
        def log_probs(trained: Params, rows: Sequences) -> jax.Array:
            return score(decoder, whole(base, trained), rows)

        gradient = one_shot(log_probs) if rl.gradient == "one_shot" else two_pass(log_probs, microbatch=rl.microbatch)
        now = {
            of.leaf: jnp.float32(getattr(settings, of.leaf) * factor(learner.updates_done))
            for of, factor in zip(scheduled, factors, strict=True)
        }
        objective = _objective(config, dataclasses.replace(settings, **now), experience, response_length)

        def epoch(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Metrics]:
            value, metrics, grads = gradient(carry[0], experience.sequences, objective)
            metrics |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
            return descend(*carry, grads, optimizer), metrics

        carry, series = jax.lax.scan(epoch, (learner.trained, learner.optimizer_state), length=rl.num_epochs)
        metrics = {name: values[0 if name == "sampler_gap" else -1] for name, values in series.items()}
        metrics |= {of.column: now[of.leaf] for of in scheduled}
        return dataclasses.replace(learner, trained=carry[0], optimizer_state=carry[1]), metrics

    return learn


def _objective(config: LanguageConfig, settings: Any, experience: Experience, response_length: int) -> Objective:
    """The method's objective, with these settings, on the log-probabilities `[N, R]` of the responses."""
    method = get_method(config)

    def grouped(rows: jax.Array) -> jax.Array:
        return rows.reshape(-1, get_group_size(config), *rows.shape[1:])

    where = grouped(experience.sequences.valid[:, -response_length:])
    if experience.counts is not None:
        where &= grouped(experience.counts)[..., None]
    reference = grouped(experience.reference_log_probs)

    def sums(log_probs: jax.Array) -> jax.Array:
        return trajectory_log_likelihood(log_probs, where=where)

    def held(make_objective: Callable[..., Objective]) -> Callable[..., Objective]:
        outside = is_outside(config.algorithm)
        return hold_to_record(config.algorithm, method, make_objective) if outside else make_objective

    of_comparisons = get_language_rules(config).comparisons
    if of_comparisons is not None:
        of_pairs = held(of_comparisons)(settings, sums(reference))
        return lambda log_probs: of_pairs(sums(grouped(log_probs)))

    assert experience.returns is not None
    assert experience.behaviour_log_probs is not None
    behaviour = grouped(experience.behaviour_log_probs)
    group = StepGroup(grouped(experience.returns), where, behaviour, is_reused=config.rl.num_epochs > 1)
    if method.keeps_steps:
        of_tokens = held(method.objective)(settings, group, reference)
    else:
        whole_group = group.sum_over_steps()
        if experience.counts is not None:
            counts = grouped(experience.counts)
            whole_group = whole_group._replace(returns=jnp.where(counts, group.returns, 0), valid=counts)
        of_sums = held(method.objective)(settings, whole_group, sums(reference))

        def of_tokens(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
            return of_sums(sums(log_probs))

    def objective(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        value, metrics = of_tokens(grouped(log_probs))
        gap = jnp.abs(sums(grouped(log_probs)) - sums(behaviour))
        return value, metrics | {"sampler_gap": jnp.max(gap)}

    return objective

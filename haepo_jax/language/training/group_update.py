"""Learning from a batch of responses that are given: every method's objective, for as many epochs as are asked for.

Responses lie in groups, those of a group adjacent; the objectives are those of the environments' algorithms.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.components import is_outside
from haepo_jax.config.method import name_method
from haepo_jax.language.config import (
    ImportanceConfig,
    LanguageConfig,
    get_group_size,
    get_language_rules,
    get_method,
    get_method_settings,
    list_scheduled,
)
from haepo_jax.language.model.decoder import Decoder
from haepo_jax.language.training.gradients import map_in_microbatches, one_shot, pull_back, two_pass
from haepo_jax.language.training.learner import LearnerState, descend, whole
from haepo_jax.language.training.scoring import Sequences, response_log_probs
from haepo_jax.losses import importance_weights, trajectory_log_likelihood
from haepo_jax.methods import Adaptation, Objective, PullBack, SeenBatch, StepGroup, make_scalars
from haepo_jax.methods.outside import find_adaptation, hold_to_record
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
    sampler_log_probs: jax.Array | None = None
    """`[N, R]` as they were sampled, where `behaviour_log_probs` are the trainer's; set with the weights."""
    importance_weights: jax.Array | None = None
    """`[N, R]` what weighs the tokens' losses; None without `rl.importance`."""


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


def find_adaptation_of(config: LanguageConfig) -> Adaptation | None:
    """Finds how the method of stage `rl` sets some of its settings while it learns; None where they stay."""
    outside = is_outside(config.algorithm)
    return find_adaptation(name_method(config), get_method(config), get_method_settings(config), is_outside=outside)


def make_init_adaptation(config: LanguageConfig) -> Callable[[Params], Any] | None:
    """Makes `trained parameters -> state of the method's adaptation`; None for a method whose settings stay."""
    adaptation = find_adaptation_of(config)
    return None if adaptation is None else lambda trained: adaptation.init(get_method_settings(config), trained)


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
      before the policy has moved; with importance weights their mean, `importance_weight`, and `importance_held`, the
      share of tokens that a bound holds; the coefficients that have a schedule as they are in this update.
    """
    rl, optimizer, settings = config.rl, make_optimizer_of(config), get_method_settings(config)
    scheduled, adaptation = list_scheduled(config), find_adaptation_of(config)
    factors = [of.make_factor(rl.num_updates) for of in scheduled]
    one_pass = rl.gradient == "one_shot"

    def learn(learner: LearnerState, base: Params | None, experience: Experience) -> tuple[LearnerState, Metrics]:
        def log_probs(trained: Params, rows: Sequences) -> jax.Array:
            return score(decoder, whole(base, trained), rows)

        gradient = one_shot(log_probs) if one_pass else two_pass(log_probs, microbatch=rl.microbatch)
        size = len(experience.sequences.tokens) if one_pass else rl.microbatch
        of_weights: Metrics = {}
        if rl.importance.level != "none":
            trainer = map_in_microbatches(partial(log_probs, learner.trained), experience.sequences, size)
            experience, of_weights = _weigh(rl.importance, experience, trainer, response_length)
        batch = _open(config, experience, response_length)

        def as_seen(trained: Params) -> SeenBatch:
            def differentiate() -> tuple[jax.Array, PullBack]:
                rows = experience.sequences
                of_tokens = map_in_microbatches(partial(log_probs, trained), rows, size)
                seen, pull = jax.vjp(batch.see, of_tokens)
                return seen, lambda slopes: pull_back(log_probs, trained, rows, pull(slopes)[0], microbatch=size)

            return SeenBatch(batch.group, batch.make_objective, differentiate)

        now = {
            of.leaf: jnp.float32(getattr(settings, of.leaf) * factor(learner.updates_done))
            for of, factor in zip(scheduled, factors, strict=True)
        }
        learnt_with, adapted = dataclasses.replace(settings, **now), learner.adaptation
        if adaptation is not None:
            learnt_with, adapted = adaptation.begin(learnt_with, adapted, as_seen(learner.trained))
        objective = batch.make_loss(learnt_with)

        def epoch(carry: tuple[Params, Any, Params], _: None) -> tuple[tuple[Params, Any, Params], Metrics]:
            before, optimizer_state, _ = carry
            value, metrics, grads = gradient(before, experience.sequences, objective)
            metrics |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
            after = descend(before, optimizer_state, grads, optimizer)
            return (*after, None if adaptation is None else before), metrics

        start = (learner.trained, learner.optimizer_state, None if adaptation is None else learner.trained)
        (trained, optimizer_state, before), series = jax.lax.scan(epoch, start, length=rl.num_epochs)
        metrics = {name: values[0 if name == "sampler_gap" else -1] for name, values in series.items()}
        if adaptation is not None:
            adapted = adaptation.end(learnt_with, adapted, as_seen(before), metrics)
        metrics |= of_weights | {of.column: now[of.leaf] for of in scheduled}
        learner = dataclasses.replace(learner, trained=trained, optimizer_state=optimizer_state, adaptation=adapted)
        return learner, metrics

    return learn


def _weigh(
    importance: ImportanceConfig, experience: Experience, trainer: jax.Array, response_length: int
) -> tuple[Experience, Metrics]:
    """Takes the trainer's log-probabilities `[N, R]` for those of the policy that sampled, and weighs by the ratio."""
    assert experience.behaviour_log_probs is not None
    where = experience.sequences.valid[:, -response_length:]
    ratios = trainer - experience.behaviour_log_probs
    weights, free = (
        importance_weights(ratios, level=importance.level, mode=importance.mode, where=where, **bounds)
        for bounds in ({"low": importance.low, "high": importance.high}, {})
    )
    experience = experience._replace(
        sampler_log_probs=experience.behaviour_log_probs, behaviour_log_probs=trainer, importance_weights=weights
    )
    count = jnp.maximum(jnp.sum(where), 1)
    metrics = {"importance_weight": jnp.sum(weights) / count, "importance_held": jnp.sum(weights != free) / count}
    return experience, make_scalars(metrics)


class _Batch(NamedTuple):
    """A batch as the method sees it."""

    group: Any
    """A `Group` or a `StepGroup`; None of comparisons."""
    make_objective: Callable[[Any], Objective]
    """`settings -> objective` of what the method takes."""
    see: Callable[[jax.Array], jax.Array]
    """`log-probabilities [N, R] ->` what the method takes."""
    describe: Callable[[jax.Array], Metrics]
    """`log-probabilities [N, R] -> metrics` of every method."""

    def make_loss(self, settings: Any) -> Objective:
        """Makes the objective, with these settings, of log-probabilities `[N, R]`."""
        of_seen = self.make_objective(settings)

        def objective(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
            value, metrics = of_seen(self.see(log_probs))
            return value, metrics | self.describe(log_probs)

        return objective


def _open(config: LanguageConfig, experience: Experience, response_length: int) -> _Batch:
    """Opens a batch for the config's method."""
    method = get_method(config)

    def grouped(rows: jax.Array) -> jax.Array:
        return rows.reshape(-1, get_group_size(config), *rows.shape[1:])

    where = grouped(experience.sequences.valid[:, -response_length:])
    counts = None if experience.counts is None else grouped(experience.counts)
    if counts is not None:
        where &= counts[..., None]
    reference = grouped(experience.reference_log_probs)

    def sums(log_probs: jax.Array) -> jax.Array:
        return trajectory_log_likelihood(log_probs, where=where)

    def see_sums(log_probs: jax.Array) -> jax.Array:
        return sums(grouped(log_probs))

    def held(make_objective: Callable[..., Objective]) -> Callable[..., Objective]:
        outside = is_outside(config.algorithm)
        return hold_to_record(config.algorithm, method, make_objective) if outside else make_objective

    of_comparisons = get_language_rules(config).comparisons
    if of_comparisons is not None:
        of_pairs, of_reference, lengths = held(of_comparisons), sums(reference), jnp.sum(where, axis=-1)
        return _Batch(None, lambda settings: of_pairs(settings, of_reference, lengths), see_sums, lambda log_probs: {})

    assert experience.returns is not None
    assert experience.behaviour_log_probs is not None
    returns, weights = grouped(experience.returns), experience.importance_weights
    group = StepGroup(
        returns if counts is None else jnp.where(counts, returns, 0),
        where,
        grouped(experience.behaviour_log_probs),
        is_reused=config.rl.num_epochs > 1,
        importance_weights=None if weights is None else grouped(weights),
        counts=counts,
    )
    of_sampler = experience.behaviour_log_probs if weights is None else experience.sampler_log_probs
    assert of_sampler is not None
    behaviour = see_sums(of_sampler)

    def describe(log_probs: jax.Array) -> Metrics:
        return {"sampler_gap": jnp.max(jnp.abs(see_sums(log_probs) - behaviour))}

    make_objective = held(method.objective)
    if method.keeps_steps:
        return _Batch(group, lambda settings: make_objective(settings, group, reference), grouped, describe)
    of_sums, of_reference = group.sum_over_steps(), sums(reference)
    return _Batch(of_sums, lambda settings: make_objective(settings, of_sums, of_reference), see_sums, describe)

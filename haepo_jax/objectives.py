"""Each method's objective: its loss with all that it needs put together, and the diagnostics to report.

An objective takes what the trained policy makes of the trajectories. Environments and language models share these.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.config import DpoLossConfig, GrpoLossConfig, HaepoLossConfig
from haepo_jax.losses import (
    dpo_loss,
    group_relative_advantages,
    grpo_loss,
    haepo_loss,
    rloo_loss,
    trajectory_log_likelihood,
    trajectory_scores,
)
from haepo_jax.types import Metrics

Objective = Callable[[jax.Array], tuple[jax.Array, Metrics]]
"""`log-likelihoods [..., M]`, or for GRPO `log-probabilities [..., M, T]`, `-> (loss, metrics)`."""


class Group(NamedTuple):
    """Groups of M trajectories as they were sampled, each as a whole."""

    returns: jax.Array
    """`[..., M]`."""
    lengths: jax.Array
    """`[..., M]` integers, steps that count."""
    behaviour_log_likelihoods: jax.Array
    """`[..., M]` under the policy that sampled them."""


class StepGroup(NamedTuple):
    """Groups of M trajectories as they were sampled, step by step."""

    returns: jax.Array
    """`[..., M]`."""
    where: jax.Array
    """`[..., M, T]` boolean, True for the steps that count."""
    behaviour_log_probs: jax.Array
    """`[..., M, T]` under the policy that sampled them."""

    def sum_over_steps(self) -> Group:
        """The trajectories as wholes."""
        behaviour = trajectory_log_likelihood(self.behaviour_log_probs, where=self.where)
        return Group(self.returns, self.where.sum(axis=-1), behaviour)


def haepo(settings: HaepoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """HAEPO, with `effective_sample_size`, `max_weight`, `weights_entropy`, `weights_kl` and
    `returns_sum_not_positive` (1 where `sum` normalisation had to drop the returns).
    """

    def scores(log_likelihoods: jax.Array) -> jax.Array:
        return trajectory_scores(
            log_likelihoods,
            kind=settings.score,
            lengths=group.lengths,
            behaviour_log_likelihoods=group.behaviour_log_likelihoods,
        )

    reference_scores = None if reference_log_likelihoods is None else scores(reference_log_likelihoods)

    def objective(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = haepo_loss(
            scores(log_likelihoods),
            group.returns,
            reference_scores,
            entropy_coef=settings.entropy_coef,
            kl_coef=0 if reference_scores is None else settings.kl_coef,
            temperature=settings.temperature,
            normalization=settings.normalization,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "max_weight": terms.max_weight,
            "weights_entropy": terms.entropy,
            "weights_kl": terms.kl,
            "returns_sum_not_positive": terms.returns_sum_not_positive,
        }
        return loss, scalars(metrics)

    return objective


def grpo(settings: GrpoLossConfig, group: StepGroup, reference_log_probs: jax.Array | None) -> Objective:
    """GRPO, with `clip_fraction`, `approx_kl` and `reference_kl`."""
    advantages = group_relative_advantages(group.returns, scale=settings.advantage_scale == "std")

    def objective(log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = grpo_loss(
            log_probs,
            group.behaviour_log_probs,
            advantages,
            reference_log_probs,
            clip_epsilon=settings.clip_epsilon,
            kl_coef=0 if reference_log_probs is None else settings.kl_coef,
            where=group.where,
            aggregation=settings.aggregation,
        )
        metrics = {"clip_fraction": terms.clip_fraction, "approx_kl": terms.approx_kl, "reference_kl": terms.kl}
        return loss, scalars(metrics)

    return objective


def rloo(returns: jax.Array, behaviour_log_likelihoods: jax.Array | None = None) -> Objective:
    """RLOO on trajectories of returns `[..., M]`; it reports nothing of its own.

    Args:
      returns: `[..., M]`.
      behaviour_log_likelihoods: `[..., M]` under the policy that sampled them, where more than one step is taken on
        them: each then counts by its importance ratio, and the loss is minus the mean of advantage times ratio. Its
        gradient is that of plain RLOO as long as the policy has not moved.
    """

    def objective(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        if behaviour_log_likelihoods is None:
            return rloo_loss(log_likelihoods, returns)[0], {}
        return rloo_loss(jnp.exp(log_likelihoods - behaviour_log_likelihoods), returns)[0], {}

    return objective


def dpo(
    settings: DpoLossConfig,
    pair: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    reference_log_likelihoods: jax.Array,
    where: jax.Array | None = None,
) -> Objective:
    """DPO, with `accuracy`, `margin` and `num_pairs`.

    Args:
      settings: of the loss.
      pair: `log-likelihoods [..., M] -> (chosen, rejected)`, of one shape.
      reference_log_likelihoods: `[..., M]`.
      where: which of the pairs count, in their shape; all when None.
    """
    reference_pair = pair(reference_log_likelihoods)

    def objective(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = dpo_loss(
            *pair(log_likelihoods),
            *reference_pair,
            beta=settings.beta,
            label_smoothing=settings.label_smoothing,
            where=where,
        )
        return loss, scalars({"accuracy": terms.accuracy, "margin": terms.margin, "num_pairs": terms.num_pairs})

    return objective


def scalars(metrics: Mapping[str, jax.Array]) -> Metrics:
    """Diagnostics as float32 scalars, the mean of each over its groups."""
    return {name: jnp.mean(values, dtype=jnp.float32) for name, values in metrics.items()}

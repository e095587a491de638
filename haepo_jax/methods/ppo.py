"""PPO: an actor and a critic, clipped steps on shuffled minibatches of segments.

Source: Schulman et al. (2017), "Proximal policy optimization algorithms".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.fields import number, optional_number
from haepo_jax.losses import clipped_surrogate_loss, clipped_value_loss
from haepo_jax.methods.record import Evaluated, Method, Objective, Samples, Sees, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import SegmentConfig
from haepo_jax.types import Metrics


@with_schedules
@dataclasses.dataclass(frozen=True)
class PpoConfig(SegmentConfig):
    """PPO: actor-critic on segments of `num_steps` steps in `num_trajectories` environments that go on in between."""

    clip_epsilon: float = number(0.2, above=0.0)
    """Bound on how far the probability ratio of a step may move from 1."""
    value_clip_epsilon: float | None = optional_number(above=0.0)
    """Bound on how far a value may move in an update, in the unit of returns; no bound when unset."""
    value_coef: float = number(0.5, low=0.0)
    """Weight of the value function's loss."""
    entropy_coef: float = number(0.01, low=0.0)
    """Weight of the policy's entropy, which the loss raises."""


def objective(settings: PpoConfig, samples: Samples) -> Objective:
    """Makes PPO's loss of a minibatch, whose advantages it normalises, with `policy_loss`, `value_loss`,
    `clip_fraction` and `approx_kl`.
    """
    where = samples.where
    centred = samples.advantages - _average(samples.advantages, where)
    spread = samples.advantages.std() if where is None else jnp.sqrt(_average(centred**2, where))
    advantages = centred / (spread + 1e-8)

    def loss_of(evaluated: Evaluated) -> tuple[jax.Array, Metrics]:
        assert evaluated.values is not None
        policy_loss, terms = clipped_surrogate_loss(
            evaluated.log_probs, samples.log_probs, advantages, clip_epsilon=settings.clip_epsilon, where=where
        )
        value_loss, _ = clipped_value_loss(
            evaluated.values,
            samples.values,
            samples.targets,
            clip_epsilon=settings.value_clip_epsilon,
            where=where,
        )
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "clip_fraction": terms.clip_fraction,
            "approx_kl": terms.approx_kl,
        }
        entropy = _average(evaluated.entropies, where)
        loss = policy_loss + settings.value_coef * value_loss - settings.entropy_coef * entropy
        return loss, make_scalars(metrics)

    return loss_of


def _average(values: jax.Array, where: jax.Array | None) -> jax.Array:
    """Averages over the steps that count; 0 if none does."""
    if where is None:
        return values.mean()
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1)


def _upgrade(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Before values had a bound of their own they had that of the ratio; a default would change the method."""
    if "value_clip_epsilon" in settings:
        return settings
    return {**settings, "value_clip_epsilon": settings.get("clip_epsilon")}


METHOD = Method(
    objective,
    Sees.SEGMENTS,
    PpoConfig(),
    metrics=("policy_loss", "value_loss", "clip_fraction", "approx_kl"),
    upgrade=_upgrade,
)

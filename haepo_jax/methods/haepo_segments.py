"""HAEPO whose segments compete in the place of whole episodes (`haepo.segment_length`): its objective and its checks.

A segment becomes a trajectory of a `Group`, so that scores, targets and projections are those of whole episodes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError
from haepo_jax.losses import (
    approximate_kl,
    clipped_value_loss,
    group_segments,
    mean_over_groups,
    segment_lengths,
    segment_log_likelihoods,
)
from haepo_jax.losses.reductions import ReduceFn, weigh_groups
from haepo_jax.methods.record import (
    Blocks,
    Evaluated,
    ExtraMemory,
    Group,
    Objective,
    count_gradient_steps,
    make_scalars,
)
from haepo_jax.methods.settings import ALL, Chosen
from haepo_jax.types import Metrics

BOOTSTRAPS = ("none", "value")
CRITICS = ("own", "shared")
ADAPTS = ("fixed", "ess", "dual")
SOURCES = ("continuing", "episodes")
"""What segments are cut from: environments that carry on from update to update, or whole episodes of each update."""
POLICY_KL = "approx_kl"
"""The metric that says how far an update has moved the policy."""

BY_STATE = ExtraMemory("the groups of segments that begin in one state", lambda number: 8 * number**2)
"""Of two float32 numbers for each pair of places: a score and its slope."""

OfGroups = Callable[[Any, Group, jax.Array | None, ReduceFn], Objective]
"""`(settings, group, reference log-likelihoods or None, how groups become one number) -> objective`."""


def make_group(settings: Any, blocks: Blocks) -> Group:
    """Makes the groups `[..., M]` of the segments of blocks, those of a minibatch or of all that were played."""
    lengths = segment_lengths(blocks.log_probs, **_cut_of(settings, blocks))
    behaviour = segment_log_likelihoods(blocks.log_probs, **_cut_of(settings, blocks))
    returns = blocks.returns[..., None, :]
    (returns, lengths, behaviour), competes = _compete(settings, blocks, (returns, lengths, behaviour))
    return Group(returns, lengths, behaviour, is_reused=True, valid=competes)


def make_objective(of_groups: OfGroups) -> Callable[[Any, Blocks], Objective]:
    """Makes the objective of blocks of that of groups.

    It adds the value function's loss where there is one, the policy's entropy, and two metrics: `approx_kl`, and
    `value_loss` with a value function.
    """

    def objective(settings: Any, blocks: Blocks) -> Objective:
        group = make_group(settings, blocks)
        valid = group.valid
        assert valid is not None
        by_size = settings.group_by == "start_state"
        reduce_fn = weigh_groups(jnp.sum(valid, axis=-1)) if by_size else mean_over_groups

        def sums(log_probs: jax.Array) -> jax.Array:
            found = segment_log_likelihoods(log_probs, **_cut_of(settings, blocks))
            return _compete(settings, blocks, found)[0]

        reference = None if blocks.reference_log_probs is None else sums(blocks.reference_log_probs)
        loss_of_sums = of_groups(settings, group, reference, reduce_fn)

        def loss_of(evaluated: Evaluated) -> tuple[jax.Array, Metrics]:
            loss, metrics = loss_of_sums(sums(evaluated.log_probs))
            kl = approximate_kl(evaluated.log_probs, blocks.log_probs, where=blocks.where)
            found = {POLICY_KL: kl}
            if evaluated.values is not None:
                assert blocks.values is not None
                assert blocks.targets is not None
                found["value_loss"], _ = clipped_value_loss(
                    evaluated.values, blocks.values, blocks.targets, where=blocks.where
                )
                loss += settings.value_coef * found["value_loss"]
            steps = jnp.maximum(jnp.sum(blocks.where), 1)
            entropy = jnp.sum(jnp.where(blocks.where, evaluated.entropies, 0)) / steps
            return loss - settings.policy_entropy_coef * entropy, metrics | make_scalars(found)

        return loss_of

    return objective


def _cut_of(settings: Any, blocks: Blocks) -> dict[str, Any]:
    return {"segment_length": settings.segment_length, "done": blocks.done, "where": blocks.where}


def _compete(settings: Any, blocks: Blocks, segments: Any) -> tuple[Any, jax.Array]:
    """Brings numbers of segments, a tree of `[..., B, 1, p]`, to groups `[..., M]`; with it which of them compete."""
    valid = segment_lengths(blocks.log_probs, **_cut_of(settings, blocks)) > 0
    if settings.group_by != "start_state":  # of one time, which leads, or of the minibatch: all that are here
        return group_segments(segments, valid)
    assert blocks.states is not None
    return group_segments(segments, valid, group_by="start_state", start_states=blocks.states[..., None, :])


def find_unread(settings: Any) -> dict[str, str | None]:
    """Finds the settings that nothing reads with segments, or without; `haepo_jax.methods.Method.unread`."""
    if settings.segment_length is None:
        of_segments = (
            *("bootstrap", "group_by", "segments_from", "num_steps", "num_minibatches", "gae_lambda"),
            *("critic", "critic_sees", "value_coef"),
            *("policy_entropy_coef", "segment_temperature", "segment_projection", "segment_adapt", "target_policy_kl"),
        )
        return dict.fromkeys(of_segments, "config.{segment_length} is unset")
    of_episodes = ("history", "target_kl", "meta_learning_rate", "temperature", "projection", "target", "adapt")
    reasons: dict[str, str | None] = dict.fromkeys(
        of_episodes, "config.{segment_length} is set, and it belongs to whole episodes"
    )
    reasons["joint"] = "config.{segment_length} is set, and the segments that compete are each agent's own"
    is_fixed = settings.segment_adapt == "fixed"
    reasons["target_effective_sample_size"] = "config.{segment_adapt} is fixed" if is_fixed else None
    holds_kl = settings.segment_adapt == "dual"
    reasons["dual_learning_rate"] = None if holds_kl else f"config.{{segment_adapt}} is {settings.segment_adapt}"
    if settings.bootstrap == "none":
        reasons |= dict.fromkeys(("gae_lambda", "critic", "critic_sees", "value_coef"), "config.{bootstrap} is none")
    if settings.segments_from == "episodes":
        reasons["num_steps"] = "config.{segments_from} is episodes"
    return reasons


def check(chosen: Chosen) -> None:
    """Refuses settings that make no sense with segments.

    Raises:
      ConfigError: a temperature that follows a divergence that no gradient step would see; a network that is to see
        what one agent sees, and what all do.
    """
    settings = chosen.settings
    if (settings.bootstrap, settings.critic, settings.critic_sees) == ("value", "shared", ALL):
        raise ConfigError(
            f"{chosen.where('critic')} shared has the policy's network, which sees what one agent sees, and "
            f"{chosen.names['critic_sees']} is {ALL}; set one of the two to own."
        )
    if settings.segment_adapt == "dual" and count_gradient_steps(settings) == 1:
        raise ConfigError(
            f"{chosen.where('segment_adapt')} dual holds how far the steps of an update move the policy, which the "
            f"only one does not see; take more {chosen.names['num_epochs']} or {chosen.names['num_minibatches']}, or "
            "ess."
        )

"""The weights of HAEPO's two terms as multipliers that move while it learns: `haepo.adapt` dual and meta.

For whole episodes both are kept as logarithms, so that they stay positive, and begin at `entropy_coef` and `kl_coef`.
After a batch each changes by at most its learning rate, in nats: `dual` by how far what it holds is from its limit,
`meta` by whether a larger one would have made the last step better for the batch after it. For segments, with
`haepo.segment_adapt` dual, the temperature of the target moves, of which both are shares.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from haepo_jax.losses import haepo_coefficients, normalize_returns, target_temperature
from haepo_jax.methods.record import Adaptation, Blocks, Group, SeenBatch
from haepo_jax.types import Metrics, Params

_LEAST, _MOST = 1e-5, 1e2  # of a multiplier: where it stops, so that it is soon back


class Multipliers(NamedTuple):
    """Logarithms of what weighs the entropy and the KL in the loss; None for a KL without a reference."""

    entropy_coef: jax.Array
    kl_coef: jax.Array | None


class Effects(NamedTuple):
    """The multipliers, and what they did to the last gradient step."""

    multipliers: Multipliers
    gradients: Params
    """Derivatives of that step's gradient by each logarithm, along a leading axis."""


def make_dual(*, has_reference: bool) -> Adaptation:
    """Makes multipliers that hold two divergences of the weights, as the last step on a batch finds them, at limits.

    That of Renyi, of order 2, from uniform weights, `log(M / effective sample size)`, at `-log rho`; and that of
    Kullback and Leibler from the reference's at `target_kl`. A multiplier rises while its divergence is above its
    limit, and falls while it is below. They move once a batch and not with each gradient step: the first step on a
    batch finds fresh weights, which say nothing of where the update goes.

    Source: the multipliers of V-MPO (arXiv 1909.12238), which move along the gradient of the dual; here they move in
    their logarithms, by the excess as a share of the limit, so that one learning rate serves both.
    """

    def init(settings: Any, params: Params) -> Multipliers:
        del params
        return _begin_at(settings, has_reference=has_reference)

    def begin(settings: Any, multipliers: Multipliers, batch: SeenBatch) -> tuple[Any, Multipliers]:
        del batch
        return _with_multipliers(settings, multipliers), multipliers

    def end(settings: Any, multipliers: Multipliers, batch: SeenBatch, metrics: Metrics) -> Multipliers:
        assert isinstance(batch.group, Group)
        spread = jnp.log(_count(batch.group) / metrics["effective_sample_size"])
        excess = Multipliers(
            spread / -jnp.log(settings.target_effective_sample_size) - 1,
            metrics["weights_kl"] / settings.target_kl - 1 if has_reference else None,
        )
        return _move(multipliers, excess, settings.dual_learning_rate)

    return Adaptation(init, begin, end)


def make_policy_dual(make_group: Callable[[Any, Blocks], Group], metric: str) -> Adaptation:
    """Makes the temperature b of the target one that keeps an update from moving the policy too far.

    b is that at which the returns of the batch pick `target_effective_sample_size` of its segments, times a factor of
    at least 1. The factor rises while the policy's divergence from the one that played is above `target_policy_kl`, as
    the last epoch finds it, and falls while it is below: the flatter the target, the nearer the weights stay to even
    ones. `entropy_coef` and `kl_coef` are shares of b. A divergence of the policy, a step's, can be compared between
    segments of any length and groups of any size; one of the weights cannot. A factor below 1 would fall on and on
    where small gradient steps keep the policy near, and leave nothing to hold a large one; one of at least 0.1 costs
    Breakout-MinAtar a third of its return (docs/segments.md).

    The state is the logarithm of the factor.

    Args:
      make_group: `(settings, all blocks of a batch) -> group` of their segments.
      metric: of an objective, the policy's divergence.

    Source: the trust region of V-MPO (arXiv 1909.12238) and the adaptive penalty of PPO (arXiv 1707.06347, section 4),
    on the target's temperature.
    """

    def init(settings: Any, params: Params) -> jax.Array:
        del settings, params
        return jnp.float32(0)

    def begin(settings: Any, log_factor: jax.Array, batch: SeenBatch) -> tuple[Any, jax.Array]:
        assert isinstance(batch.group, Blocks)
        group = make_group(settings, batch.group)
        returns = normalize_returns(group.returns, method=settings.normalization, where=group.valid)
        found = target_temperature(
            returns, effective_sample_size=settings.target_effective_sample_size, where=group.valid
        )
        has_spread = found > 0
        least = jnp.sum(jnp.where(has_spread, found, 0)) / jnp.maximum(jnp.sum(has_spread), 1)
        temperature = least * jnp.exp(log_factor)
        total = settings.entropy_coef + settings.kl_coef
        share = jnp.where(total > 0, settings.kl_coef / jnp.where(total > 0, total, 1), 0)
        weights = {"entropy_coef": temperature * (1 - share), "kl_coef": temperature * share}
        return dataclasses.replace(settings, **weights), log_factor

    def end(settings: Any, log_factor: jax.Array, batch: SeenBatch, metrics: Metrics) -> jax.Array:
        del batch
        excess = metrics[metric] / settings.target_policy_kl - 1
        return _move(log_factor, excess, settings.dual_learning_rate, least=1.0)

    return Adaptation(init, begin, end)


def make_temperature_dual(metric: str) -> Adaptation:
    """Makes the temperature of V-MPO's weights one at which they are worth `temperature_bound` nats.

    It rises while the weights' divergence from even ones over the best is above the bound, and falls while it is
    below: the direction of the slope of V-MPO's dual, in the logarithm. The state is that logarithm.

    Args:
      metric: of an objective, that divergence.

    Source: V-MPO (arXiv 1909.12238), equation 5.
    """

    def init(settings: Any, params: Params) -> jax.Array:
        del params
        return jnp.log(jnp.asarray(settings.temperature, jnp.float32))

    def begin(settings: Any, log_temperature: jax.Array, batch: SeenBatch) -> tuple[Any, jax.Array]:
        del batch
        return dataclasses.replace(settings, temperature=jnp.exp(log_temperature)), log_temperature

    def end(settings: Any, log_temperature: jax.Array, batch: SeenBatch, metrics: Metrics) -> jax.Array:
        del batch
        excess = metrics[metric] / settings.temperature_bound - 1
        return _move(log_temperature, excess, settings.dual_learning_rate)

    return Adaptation(init, begin, end)


def make_meta(*, has_reference: bool) -> Adaptation:
    r"""Makes multipliers that move along their meta-gradient: so that the last step makes the next batch's loss lower.

    With c the slopes of the loss by the log-likelihoods L, a gradient step is :math:`-\alpha \sum_k c_k \nabla L_k`.
    A multiplier :math:`e^\eta` acts on it through c alone: its derivative is :math:`-\alpha v`,
    :math:`v = \sum_k (\partial c_k / \partial \eta) \nabla L_k`, a pull-back of the batch's log-likelihoods in place
    of a second derivative of the policy. The outer loss is minus the mean normalised return of the next batch, each
    episode weighed by its likelihood ratio to the policy that played it. At that policy its gradient g is the policy
    gradient, so that the outer loss falls with :math:`\eta` by :math:`\alpha \, g \cdot v`. The optimiser's
    preconditioner is left out, as are the steps on the batch before the last one. :math:`\eta` moves by the cosine of
    g and v: their lengths, and that of the step, say nothing of the direction.

    Source: STAC (arXiv 2002.12928), which adapts an actor-critic's settings by the same one-step meta-gradient.
    """

    def init(settings: Any, params: Params) -> Effects:
        multipliers = _begin_at(settings, has_reference=has_reference)
        number = len(jax.tree.leaves(multipliers))
        return Effects(multipliers, jax.tree.map(lambda leaf: jnp.zeros((number, *leaf.shape), leaf.dtype), params))

    def begin(settings: Any, state: Effects, batch: SeenBatch) -> tuple[Any, Effects]:
        assert isinstance(batch.group, Group)
        log_likelihoods, pull_back = batch.differentiate()
        outer = pull_back(
            haepo_coefficients(
                log_likelihoods - batch.group.behaviour_log_likelihoods,
                batch.group.returns,
                entropy_coef=0,
                kl_coef=0,
                normalization=settings.normalization,
                where=batch.group.valid,
            )
        )
        cosines = jax.tree.unflatten(
            jax.tree.structure(state.multipliers), jax.vmap(_cosine, (None, 0))(outer, state.gradients)
        )
        multipliers = _move(state.multipliers, cosines, settings.meta_learning_rate)
        return _with_multipliers(settings, multipliers), state._replace(multipliers=multipliers)

    def end(settings: Any, state: Effects, batch: SeenBatch, metrics: Metrics) -> Effects:
        del metrics
        log_likelihoods, pull_back = batch.differentiate()

        def slopes(multipliers: Multipliers) -> jax.Array:
            objective = batch.make_objective(_with_multipliers(settings, multipliers))
            return jax.grad(objective, has_aux=True)(log_likelihoods)[0]

        of_each = jnp.stack(jax.tree.leaves(jax.jacfwd(slopes)(state.multipliers)))
        return state._replace(gradients=jax.vmap(pull_back)(of_each))

    return Adaptation(init, begin, end)


def _count(group: Group) -> jax.Array | int:
    """Counts the trajectories that compete."""
    return group.returns.shape[-1] if group.valid is None else jnp.sum(group.valid)


def _begin_at(settings: Any, *, has_reference: bool) -> Multipliers:
    def logarithm(coefficient: Any) -> jax.Array:
        return jnp.log(jnp.asarray(coefficient, jnp.float32))

    return Multipliers(logarithm(settings.entropy_coef), logarithm(settings.kl_coef) if has_reference else None)


def _with_multipliers(settings: Any, multipliers: Multipliers) -> Any:
    """The settings with the multipliers in the place of the coefficients."""
    coefficients = {name: jnp.exp(value) for name, value in multipliers._asdict().items() if value is not None}
    return dataclasses.replace(settings, **coefficients)


def _move[Logarithms](
    multipliers: Logarithms, by: Logarithms, learning_rate: jax.Array, *, least: float = _LEAST
) -> Logarithms:
    """Moves each by at most the learning rate, and not beyond the bounds."""
    return jax.tree.map(
        lambda log, step: jnp.clip(log + learning_rate * jnp.clip(step, -1, 1), jnp.log(least), jnp.log(_MOST)),
        multipliers,
        by,
    )


def _cosine(left: Params, right: Params) -> jax.Array:
    """Of two gradients; 0 where one of them is 0."""
    lengths = optax.tree.norm(left) * optax.tree.norm(right)
    return jnp.where(lengths > 0, optax.tree.vdot(left, right) / jnp.where(lengths > 0, lengths, 1), 0)

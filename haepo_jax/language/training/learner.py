"""Trained parameters, fixed ones, and one step of the optimiser: the same in every stage."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from haepo_jax.language.model.lora import join
from haepo_jax.language.model.sharding import shard_parameters
from haepo_jax.methods import make_scalars
from haepo_jax.types import Metrics, Params


@flax.struct.dataclass
class LearnerState:
    """The state of a stage between updates."""

    trained: Params
    """float32; with an adapter, the adapter alone."""
    optimizer_state: Any
    key: jax.Array
    updates_done: jax.Array
    """int32 scalar."""


Update = Callable[[LearnerState, Any, Any], tuple[LearnerState, Metrics]]
"""`(learner, frozen, batch) -> (learner, metrics)`; metrics are scalars, `tokens` (of responses) among them."""


def init_learner(trained: Params, optimizer: optax.GradientTransformation, *, seed: int, mesh: Mesh) -> LearnerState:
    """Makes the state before the first update, on the devices."""

    def make(trained: Params) -> LearnerState:
        return LearnerState(trained, optimizer.init(trained), jax.random.key(seed), jnp.int32(0))

    return jax.jit(make, out_shardings=shard_parameters(mesh, jax.eval_shape(make, trained)))(trained)


def whole(base: Params | None, trained: Params) -> Params:
    """Joins the trained parameters with those that they adapt, where there are such, to apply a decoder with."""
    return trained if base is None else join(base, trained)


def descend(
    trained: Params, optimizer_state: Any, gradient: Params, optimizer: optax.GradientTransformation
) -> tuple[Params, Any]:
    """Takes one step down the gradient; returns parameters and optimiser state."""
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, trained)
    return optax.apply_updates(trained, updates), optimizer_state


def make_supervised_update(
    loss: Callable[[Params, Any, Any], tuple[jax.Array, Metrics]],
    tokens: Callable[[Any], jax.Array],
    optimizer: optax.GradientTransformation,
) -> Update:
    """Makes an update of one step down a loss of the batch alone.

    Args:
      loss: `(trained, frozen, batch) -> (loss, metrics)`.
      tokens: the number of them in a batch.
      optimizer: takes the step.

    Returns:
      The `Update`; its metrics are those of the loss, `loss`, `grad_norm` and `tokens`.
    """

    def update(learner: LearnerState, frozen: Any, batch: Any) -> tuple[LearnerState, Metrics]:
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(learner.trained, frozen, batch)
        trained, optimizer_state = descend(learner.trained, learner.optimizer_state, gradient, optimizer)
        metrics = make_scalars(metrics | {"loss": value, "grad_norm": optax.tree.norm(gradient)})
        learner = dataclasses.replace(
            learner, trained=trained, optimizer_state=optimizer_state, updates_done=learner.updates_done + 1
        )
        return learner, metrics | {"tokens": tokens(batch)}

    return update

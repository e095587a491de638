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
from haepo_jax.language.training.gradients import accumulate_gradient
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
    adaptation: Any = None
    """State of the method's adaptation; None for a method whose settings stay, and in other stages."""


Update = Callable[[LearnerState, Any, Any], tuple[LearnerState, Metrics]]
"""`(learner, frozen, batch) -> (learner, metrics)`; metrics are scalars, `tokens` (of responses) among them."""


def init_learner(
    trained: Params,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    mesh: Mesh,
    init_adaptation: Callable[[Params], Any] | None = None,
) -> LearnerState:
    """Makes the state before the first update, on the devices.

    Args:
      trained: the parameters to train.
      optimizer: of the stage.
      seed: of the run.
      mesh: the devices.
      init_adaptation: makes the state of a method's adaptation of the parameters; None where there is none.
    """

    def make(trained: Params) -> LearnerState:
        adaptation = None if init_adaptation is None else init_adaptation(trained)
        return LearnerState(trained, optimizer.init(trained), jax.random.key(seed), jnp.int32(0), adaptation)

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
    loss: Callable[[Params, Any, Any, jax.Array | None], tuple[jax.Array, Metrics]],
    weigh: Callable[[Any, jax.Array | None], jax.Array],
    tokens: Callable[[Any], jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    microbatch: int = 0,
) -> Update:
    """Makes an update of one step down a loss of the batch alone.

    Args:
      loss: `(trained, frozen, batch, where) -> (loss, metrics)`, all of them means over the same things, such as
        tokens; `where` says which rows count, all if it is None.
      weigh: `(batch, where) -> number` of these things.
      tokens: the number of them in a batch.
      optimizer: takes the step.
      microbatch: rows whose gradient is computed at a time; 0 for all.

    Returns:
      The `Update`; its metrics are those of the loss, `loss`, `grad_norm` and `tokens`. Value, metrics and gradient
      are those of the whole batch whatever `microbatch` is: each piece counts by its weight.
    """

    def differentiate(trained: Params, frozen: Any, batch: Any) -> tuple[jax.Array, Metrics, Params]:
        if not microbatch:
            (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(trained, frozen, batch, None)
            return value, metrics, gradient
        total = jnp.maximum(weigh(batch, None), 1)

        def of_piece(trained: Params, rows: Any, where: jax.Array) -> tuple[jax.Array, Metrics]:
            share = weigh(rows, where) / total
            value, metrics = loss(trained, frozen, rows, where)
            return share * value, {name: share * metric for name, metric in metrics.items()}

        return accumulate_gradient(of_piece, trained, batch, microbatch=microbatch)

    def update(learner: LearnerState, frozen: Any, batch: Any) -> tuple[LearnerState, Metrics]:
        value, metrics, gradient = differentiate(learner.trained, frozen, batch)
        trained, optimizer_state = descend(learner.trained, learner.optimizer_state, gradient, optimizer)
        metrics = make_scalars(metrics | {"loss": value, "grad_norm": optax.tree.norm(gradient)})
        learner = dataclasses.replace(
            learner, trained=trained, optimizer_state=optimizer_state, updates_done=learner.updates_done + 1
        )
        return learner, metrics | {"tokens": tokens(batch)}

    return update

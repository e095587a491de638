"""What is trained, what is fixed, and one step of the optimiser: the same in every stage."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from haepo_jax.language.adapters import join
from haepo_jax.language.sharding import for_parameters

Params = Any


@flax.struct.dataclass
class Learner:
    """What a stage keeps between updates."""

    trained: Params
    """float32; with an adapter, the adapter alone."""
    optimizer_state: Any
    key: jax.Array
    updates_done: jax.Array
    """int32 scalar."""


def start(trained: Params, optimizer: optax.GradientTransformation, *, seed: int, mesh: Mesh) -> Learner:
    """The state before the first update, on the devices."""

    def make(trained: Params) -> Learner:
        return Learner(trained, optimizer.init(trained), jax.random.key(seed), jnp.int32(0))

    return jax.jit(make, out_shardings=for_parameters(mesh, jax.eval_shape(make, trained)))(trained)


def whole(base: Params | None, trained: Params) -> Params:
    """The parameters to apply a decoder with: the trained ones, joined with what they adapt where there is such."""
    return trained if base is None else join(base, trained)


def descend(
    trained: Params, optimizer_state: Any, gradient: Params, optimizer: optax.GradientTransformation
) -> tuple[Params, Any]:
    """Parameters and optimiser state after one step."""
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, trained)
    return optax.apply_updates(trained, updates), optimizer_state

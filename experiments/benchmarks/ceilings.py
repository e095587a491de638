"""The limits of this machine: matrix products and tanh, on all devices at once, in the sizes of a policy."""

import itertools
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

_ROWS, _WIDTH = 128, 64
_SECONDS = 0.3


class Ceilings(NamedTuple):
    """Of all devices together, each the best of its repeats."""

    flops_per_second: float
    """In products `[128, 64] x [64, 64]` of float32, a multiplication and an addition counted as two."""
    tanh_per_second: float


def measure_ceilings(repeats: int) -> Ceilings:
    """Measures both."""
    x = jax.random.normal(jax.random.key(0), (_ROWS, _WIDTH))
    # Orthogonal, so that numbers stay as large as they are however often they are multiplied.
    weights, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (_WIDTH, _WIDTH)))
    products = _best_rate(lambda x: x @ weights, x, repeats)
    return Ceilings(
        flops_per_second=products * 2 * _ROWS * _WIDTH * _WIDTH,
        tanh_per_second=_best_rate(jnp.tanh, x, repeats) * _ROWS * _WIDTH,
    )


class Floor(NamedTuple):
    """The least that a step of a policy costs by these ceilings, on all devices together."""

    forward: float
    """Seconds of one application."""
    forward_and_gradient: float
    """Seconds of one application and the gradient of its log-probability: twice the products again, but for the
    gradient with respect to the observation, which nobody needs."""


def estimate_floor(ceilings: Ceilings, sizes: tuple[int, ...]) -> Floor:
    """Estimates the least seconds of a multilayer perceptron with tanh between its layers.

    Args:
      ceilings: of the machine.
      sizes: the widths, observation and output included.
    """
    products = 2 * sum(math.prod(pair) for pair in itertools.pairwise(sizes))
    activations = sum(sizes[1:-1])
    forward = products / ceilings.flops_per_second + activations / ceilings.tanh_per_second
    first = 2 * sizes[0] * sizes[1]
    return Floor(forward, forward + (2 * products - first) / ceilings.flops_per_second)


def _best_rate(function: Callable[[jax.Array], jax.Array], x: jax.Array, repeats: int) -> float:
    """Calls a second on all devices together, one result after the other."""
    mesh = Mesh(np.asarray(jax.devices()), ("devices",))
    everywhere = PartitionSpec()

    def loop(x: jax.Array, count: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, x: function(x), x)

    mapped = jax.jit(
        jax.shard_map(loop, mesh=mesh, in_specs=(everywhere, everywhere), out_specs=everywhere, check_vma=False)
    )

    def seconds(count: int) -> float:
        clock = time.perf_counter()
        jax.block_until_ready(mapped(x, np.int32(count)))
        return time.perf_counter() - clock

    seconds(1)
    count = 1000
    while (taken := seconds(count)) < _SECONDS:
        count = int(count * min(10.0, 1.2 * _SECONDS / taken))
    return max(count * mesh.size / seconds(count) for _ in range(repeats))

import jax.numpy as jnp
import pytest
from jax import jit

from experiments.benchmarks.ceilings import Ceilings, estimate_floor


def test_the_floor_is_that_of_products_and_activations():
    """4 x 64 + 64 x 64 + 64 x 2 weights; the gradient of the observation is not needed."""
    ceilings = Ceilings(flops_per_second=1e9, tanh_per_second=1e6)
    weights = 256 + 4096 + 128
    forward = 2 * weights / 1e9 + 128 / 1e6
    least = estimate_floor(ceilings, (4, 64, 64, 2))
    assert least.forward == pytest.approx(forward)
    assert least.forward_and_gradient == pytest.approx(forward + 2 * (2 * weights - 256) / 1e9)


def test_the_compiler_counts_as_many_products():
    def forward(x, *weights):
        for weight in weights:
            x = x @ weight
        return x

    inputs = [jnp.ones(shape) for shape in ((128, 4), (4, 64), (64, 64), (64, 2))]
    counted = jit(forward).lower(*inputs).compile().cost_analysis()["flops"]
    least = estimate_floor(Ceilings(flops_per_second=1.0, tanh_per_second=float("inf")), (4, 64, 64, 2))
    assert counted == pytest.approx(128 * least.forward, rel=0.01)

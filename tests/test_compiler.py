"""Probes of the compiler itself: jaxlibs before 0.11 fail them on CPU, and no number of theirs can be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("rows", [32_768, 32_769, 40_000])
@pytest.mark.parametrize("reduce", [jnp.sum, jnp.max, lambda row: jnp.sum(row**2)], ids=["sum", "max", "squares"])
def test_a_vmapped_matrix_vector_product_that_is_reduced_is_right(rows, reduce):
    # jax issue 39103: with 0.10.2 the rows past a multiple of 32,768 come out wrong, by up to half their value.
    generator = np.random.default_rng(0)
    x, matrix = (generator.normal(size=shape).astype(np.float32) for shape in ((rows, 3), (3, 3)))
    jitted = jax.jit(jax.vmap(lambda row: reduce(matrix @ row)))(x)
    products = x.astype(np.float64) @ matrix.astype(np.float64).T
    expected = np.stack([np.asarray(reduce(row)) for row in products[-8:]])
    np.testing.assert_allclose(jitted[-8:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.timeout(120)
def test_a_vmapped_training_program_ends():
    # jaxlib 0.10 deadlocks on CPU in programs of this kind, on their first or second call.
    def train(key):
        def update(params, step_key):
            x = jax.random.normal(step_key, (64, 4))
            grads = jax.grad(lambda p: jnp.mean(jnp.square(jnp.tanh(x @ p[0]) @ p[1] - x[:, :1])))(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), None

        params = jax.random.normal(key, (4, 8)), jnp.zeros((8, 1))
        return jax.lax.scan(update, params, jax.random.split(key, 50))[0]

    program = jax.jit(lambda keys: jax.lax.map(train, keys, batch_size=8))
    keys = jax.random.split(jax.random.key(0), 32)
    first, second = program(keys), program(keys)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from haepo_jax.config import OptimizerConfig
from haepo_jax.optimizer import at_step, make_optimizer


def test_the_clip_keeps_the_direction():
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
    optimizer = make_optimizer(OptimizerConfig(max_grad_norm=0.5), 10)
    _, state = optimizer.update(grads, optimizer.init(grads))
    seen = optax.tree.scale(1 / (1 - 0.9), optax.tree.get(state, "mu"))  # by Adam, at its first step
    np.testing.assert_allclose(seen["a"], [0.3, 0.0], rtol=1e-5)
    np.testing.assert_allclose(seen["b"], 0.4, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0] * 6),
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        ("cosine", [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0.0, 0.0]),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, expected):
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, schedule=schedule), 4)
    grads = jnp.array([1.0, -1.0])
    state, sizes = optimizer.init(grads), []
    for _ in range(6):
        updates, state = optimizer.update(grads, state)
        np.testing.assert_allclose(updates[0], -updates[1])
        sizes.append(float(-updates[0]))
    np.testing.assert_allclose(sizes, 0.1 * np.array(expected), atol=1e-6)


def test_a_schedule_can_be_set_to_any_step_and_nothing_else_changes():
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, schedule="linear"), 4)
    grads = jnp.array([1.0, -1.0])
    state = optimizer.init(grads)
    _, once = optimizer.update(grads, state)
    _, moved = optimizer.update(grads, at_step(state, jnp.int32(3)))
    assert int(moved[-1].count) == 4 and int(once[-1].count) == 1
    np.testing.assert_array_equal(moved[1].mu, once[1].mu)
    updates, _ = optimizer.update(grads, at_step(state, jnp.int32(3)))
    np.testing.assert_allclose(-updates[0], 0.1 * 0.25, rtol=1e-5)

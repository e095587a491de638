import dataclasses
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from haepo_jax.config import OptimizerConfig
from haepo_jax.errors import ConfigError
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


@pytest.mark.parametrize("arguments", [{"schedule_kwargs": {"end": 0.2}}, {"schedule_params": {"end": 0.2}}])
def test_the_learning_rate_may_fall_to_a_share_of_itself(arguments):
    config = OptimizerConfig(learning_rate=0.1, schedule="linear", max_grad_norm=9.0, transform=f"{HERE}plain")
    steps = updates_of(dataclasses.replace(config, **arguments), 4, 6, jnp.array([1.0]))
    np.testing.assert_allclose(steps[:, 0], -0.1 * np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.2]), rtol=1e-6)


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


def plain():
    return optax.identity()


def ramp(step, num_steps, *, power, start=0.0):
    return start + (1 - start) * (step / num_steps) ** power


def two(step, num_steps):
    del num_steps
    return jnp.stack([step, step])


def transform(update, start=0):
    return optax.GradientTransformation(lambda params: start, update)


def sums():
    return transform(lambda gradients, state, params=None: (gradients.sum(), state))


def lists():
    return transform(lambda gradients, state, params=None: ([gradients], state))


def drifts():
    return transform(lambda gradients, state, params=None: (gradients, state + 0.5))


def grows():
    return transform(lambda gradients, state, params=None: (gradients, (state, state)))


def fails():
    return transform(lambda gradients, state, params=None: params["nothing"])


def imaginary(step, num_steps):
    del num_steps
    return 1j * step


HERE = "test_optimizer:"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_optimizer", sys.modules[__name__])


def updates_of(config, num_steps, count, grads):
    """The steps of `count` updates on one gradient, `[count, ...]`, where numbers of the config may be traced."""
    optimizer = make_optimizer(config, num_steps)
    state, steps = optimizer.init(grads), []
    for _ in range(count):
        step, state = optimizer.update(grads, state, grads)
        steps.append(step)
    return jnp.stack(steps)


def test_a_transform_from_outside_takes_the_place_of_adam():
    grads = jnp.array([0.3, -0.1])
    config = OptimizerConfig(learning_rate=0.1, transform="optax:scale_by_lion", transform_params={"b1": 0.5})
    by_hand = optax.chain(optax.clip_by_global_norm(0.5), optax.scale_by_lion(b1=0.5), optax.scale(-0.1))
    expected, _ = by_hand.update(grads, by_hand.init(grads))
    np.testing.assert_allclose(updates_of(config, 4, 1, grads)[0], expected)


def test_numbers_of_a_transform_and_of_a_schedule_may_be_traced():
    grads = jnp.array([1.0, -0.5])

    def last(b1, power):
        config = OptimizerConfig(
            transform_params={"b1": b1}, schedule=f"{HERE}ramp", schedule_params={"power": power}, max_grad_norm=9.0
        )
        return updates_of(config, 4, 3, grads * jnp.array([1.0, 2.0]))[-1]

    both = jax.jit(jax.vmap(last))(jnp.array([0.1, 0.9]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(both, [last(0.1, 1.0), last(0.9, 2.0)], rtol=1e-5)
    assert abs(float(both[0, 0] - both[1, 0])) > 1e-5


def test_a_schedule_from_outside_gets_the_step_and_the_number_of_steps():
    config = OptimizerConfig(
        learning_rate=0.1,
        schedule=f"{HERE}ramp",
        schedule_kwargs={"power": 2},
        transform="optax:identity",
        max_grad_norm=9.0,
    )
    steps = updates_of(config, 4, 5, jnp.array([1.0]))
    np.testing.assert_allclose(steps[:, 0], -0.1 * (np.arange(5) / 4) ** 2, atol=1e-7)
    optimizer = make_optimizer(config, 4)
    moved, _ = optimizer.update(jnp.array([1.0]), at_step(optimizer.init(jnp.array([1.0])), jnp.int32(4)))
    np.testing.assert_allclose(moved, [-0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"transform_params": {"b3": 1.0}},
            "config.optimizer.transform_params.b3 is not an argument of scale",
        ),
        ({"transform": f"{HERE}ramp", "transform_kwargs": {"power": 1, "step": 1, "num_steps": 2}}, "it must make an"),
        ({"transform": "optax:no_such"}, "config.optimizer.transform optax:no_such: optax"),
        (
            {"schedule": f"{HERE}ramp"},
            "needs the argument power: give config.optimizer.schedule_kwargs.power or",
        ),
        ({"schedule": f"{HERE}two"}, "gives int32[2]; it must give one number."),
        ({"schedule": f"{HERE}imaginary"}, "gives complex64[]; it must give one number."),
        (
            {"transform": f"{HERE}sums"},
            "makes updates with float32[] where those of the parameters have float32[1]; both must be the same.",
        ),
        ({"transform": f"{HERE}lists"}, "makes updates of other fields than those of the parameters; they must have"),
        (
            {"transform": f"{HERE}drifts"},
            "makes a state with float32[] where those of the state before have int32[]; both must be the same.",
        ),
        ({"transform": f"{HERE}grows"}, "makes a state of other fields than those of the state before; they must"),
        ({"transform": f"{HERE}fails"}, f"config.optimizer.transform {HERE}fails fails at line "),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        updates_of(OptimizerConfig(**settings), 4, 1, jnp.array([1.0]))

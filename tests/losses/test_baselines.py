"""`reinforce_loss`: values, gradients, masks, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from haepo_jax import reinforce_loss

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]


@jax.jit
def gradient_of(log_likelihoods, advantages, where=None):
    return jax.grad(lambda x: reinforce_loss(x, advantages, where=where)[0])(log_likelihoods)


def test_by_hand():
    # -(2 * -1 + 0.5 * -4) / 2 = 2 and -(1 * -1 + -1 * -3) / 2 = -1, on average 1/2
    loss, metrics = reinforce_loss(jnp.array([[-1.0, -4.0], [-1.0, -3.0]]), jnp.array([[2.0, 0.5], [1.0, -1.0]]))
    assert loss == 0.5
    np.testing.assert_array_equal(metrics.policy_loss, [2, -1])
    np.testing.assert_array_equal(metrics.num_valid, [2, 2])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("garbage", [None, *GARBAGE])
def test_matches_the_reference(reference, make_batch, shape, garbage):
    batch = make_batch(shape, garbage=garbage)
    where = batch.where if garbage is not None else np.ones(shape, bool)
    loss, metrics = jax.jit(reinforce_loss)(batch.scores, batch.returns, where=where)
    expected = reference.reinforce(batch.scores, batch.returns, where)
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(metrics.policy_loss, expected.policy_loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))


def test_gradient_is_minus_the_advantage_over_valid_trajectories_and_groups(make_batch):
    batch = make_batch((3, 6), garbage=np.nan)
    advantages = np.where(batch.where, batch.returns, 0)
    expected = -advantages / batch.where.sum(-1, keepdims=True) / 3
    np.testing.assert_allclose(gradient_of(batch.scores, batch.returns, batch.where), expected, rtol=1e-5)


def test_advantages_are_constants_to_the_gradient():
    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.grad(lambda a: reinforce_loss(x, a)[0])(x), [0, 0])
    np.testing.assert_array_equal(jax.grad(lambda x: reinforce_loss(x, x)[0])(x), [-0.5, -1])


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_masked_trajectory_equals_a_dropped_one(garbage):
    where = jnp.array([True, False, True])
    masked, dropped = jnp.array([-1.0, garbage, -4.0]), jnp.array([-1.0, -4.0])
    loss, metrics = reinforce_loss(masked, -masked, where=where)
    assert loss == reinforce_loss(dropped, -dropped)[0] == 17 / 2
    assert metrics.num_valid == 2
    np.testing.assert_array_equal(gradient_of(masked, -masked, where), [-0.5, 0, -2])


@pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
def test_an_all_masked_group_contributes_nothing(garbage):
    x = jnp.array([[-1.0, -4.0], [garbage, garbage]])
    where = jnp.array([[True, True], [False, False]])
    loss, metrics = reinforce_loss(x, -x, where=where)
    assert loss == 17 / 2
    np.testing.assert_array_equal(metrics.policy_loss, [17 / 2, 0])
    np.testing.assert_array_equal(gradient_of(x, -x, where), [[-0.5, -2], [0, 0]])


@pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
def test_all_masked_gives_loss_zero_and_gradient_zero(garbage):
    x, where = jnp.full((2, 3), garbage), jnp.zeros((2, 3), bool)
    assert reinforce_loss(x, x, where=where)[0] == 0
    np.testing.assert_array_equal(gradient_of(x, x, where), np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
def test_narrow_input_gives_float32(dtype):
    loss, metrics = reinforce_loss(jnp.ones(3, dtype), jnp.ones(3, dtype))
    assert loss.dtype == metrics.policy_loss.dtype == jnp.float32
    assert metrics.num_valid.dtype == jnp.int32


def test_float64_stays_float64(x64, make_batch, reference):
    batch = make_batch((3, 6))
    loss, metrics = reinforce_loss(batch.scores, batch.returns, where=batch.where)
    assert loss.dtype == metrics.policy_loss.dtype == jnp.float64
    assert metrics.num_valid.dtype == jnp.int32
    np.testing.assert_allclose(loss, reference.reinforce(batch.scores, batch.returns, batch.where).loss, rtol=1e-13)


def test_check_grads(x64, make_batch):
    batch = make_batch((3, 6))
    loss = jax.jit(lambda x: reinforce_loss(x, batch.returns, where=batch.where)[0])
    check_grads(loss, (batch.scores,), order=1)


def test_refuses_a_scalar():
    with pytest.raises(ValueError, match="log_likelihoods must have at least one axis"):
        reinforce_loss(jnp.float32(1), jnp.float32(1))


def test_refuses_a_mask_that_is_not_boolean():
    with pytest.raises(TypeError, match="where must be boolean"):
        reinforce_loss(jnp.zeros(3), jnp.zeros(3), where=jnp.ones(3))


def test_refuses_advantages_that_would_broadcast():
    with pytest.raises(AssertionError) as error:
        reinforce_loss(jnp.zeros(4), jnp.zeros(1))
    assert "log_likelihoods (4,)" in str(error.value) and "advantages (1,)" in str(error.value)


def test_refuses_a_mask_that_would_broadcast():
    with pytest.raises(AssertionError) as error:
        reinforce_loss(jnp.zeros((2, 3)), jnp.zeros((2, 3)), where=jnp.ones(3, bool))
    assert "log_likelihoods (2, 3)" in str(error.value) and "where (3,)" in str(error.value)

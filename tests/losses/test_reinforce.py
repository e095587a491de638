"""`reinforce_loss` and `rloo_loss`: values, gradients, masks, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from haepo_jax import leave_one_out_advantages, reinforce_loss, rloo_loss

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
SMALL = arrays(np.float32, 6, elements=st.integers(-20, 20))
MASK = arrays(bool, 6)
ORDER = st.permutations(range(6))


@jax.jit
def gradient_of(log_likelihoods, advantages, where=None):
    return jax.grad(lambda x: reinforce_loss(x, advantages, where=where)[0])(log_likelihoods)


@jax.jit
def rloo(log_likelihoods, returns, where=None):
    """Loss, metrics, and the gradient with respect to the log-likelihoods."""
    loss = jax.value_and_grad(lambda x: rloo_loss(x, returns, where=where), has_aux=True)
    (value, metrics), gradient = loss(log_likelihoods)
    return value, metrics, gradient


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


class TestRloo:
    def test_by_hand(self):
        # returns 1, 2, 6 against the means of the others 4, 7/2, 3/2: advantages -3, -3/2, 9/2
        loss, metrics = rloo_loss(jnp.array([-1.0, -2.0, -4.0]), jnp.array([1.0, 2.0, 6.0]))
        np.testing.assert_allclose(metrics.advantages, [-3, -1.5, 4.5], rtol=1e-6)
        np.testing.assert_allclose(loss, -(3 + 3 - 18) / 3, rtol=1e-6)
        assert metrics.policy_loss == loss and metrics.num_valid == 3

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_matches_the_reference(self, reference, make_batch, shape, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = batch.where if garbage is not None else np.ones(shape, bool)
        loss, metrics, gradient = rloo(batch.scores, batch.returns, where)
        advantages = reference.leave_one_out(batch.returns, where)
        expected = reference.reinforce(batch.scores, advantages, where)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
        np.testing.assert_allclose(metrics.policy_loss, expected.policy_loss, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics.advantages, advantages, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(metrics.num_valid, where.sum(-1))
        groups = np.prod(shape[:-1], dtype=int)
        slope = -advantages / where.sum(-1, keepdims=True) / groups
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)

    def test_is_reinforce_with_leave_one_out_advantages(self, make_batch):
        batch = make_batch((3, 6), garbage=np.nan)
        loss, metrics, gradient = rloo(batch.scores, batch.returns, batch.where)
        advantages = leave_one_out_advantages(batch.returns, where=batch.where)
        np.testing.assert_allclose(loss, reinforce_loss(batch.scores, advantages, where=batch.where)[0], rtol=1e-6)
        np.testing.assert_allclose(metrics.advantages, advantages, rtol=1e-6)
        np.testing.assert_allclose(gradient, gradient_of(batch.scores, advantages, batch.where), rtol=1e-6)

    def test_returns_are_constants_to_the_gradient(self):
        x = jnp.array([1.0, 2.0])
        np.testing.assert_array_equal(jax.grad(lambda returns: rloo_loss(x, returns)[0])(x), [0, 0])

    @PROPERTY
    @given(SMALL, SMALL, ORDER, st.sampled_from(GARBAGE))
    def test_a_masked_trajectory_equals_a_dropped_one(self, log_likelihoods, returns, order, garbage):
        kept, masked = np.sort(order[2:]), np.array(order[:2])
        expected = rloo(log_likelihoods[kept], returns[kept], np.ones(4, bool))
        log_likelihoods[masked] = returns[masked] = garbage
        loss, metrics, gradient = rloo(log_likelihoods, returns, np.isin(np.arange(6), kept))
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(metrics.advantages[kept], expected[1].advantages, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradient[kept], expected[2], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal([gradient[masked], metrics.advantages[masked]], np.zeros((2, 2)))

    @PROPERTY
    @given(SMALL, SMALL, MASK, ORDER)
    def test_permuting_trajectories_changes_nothing(self, log_likelihoods, returns, where, order):
        order = np.array(order)
        loss, _, gradient = rloo(log_likelihoods, returns, where)
        permuted = rloo(log_likelihoods[order], returns[order], where[order])
        np.testing.assert_allclose(permuted[0], loss, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(permuted[2], gradient[order], rtol=1e-4, atol=1e-4)

    @PROPERTY
    @given(SMALL, SMALL, MASK, st.integers(-1000, 1000))
    def test_a_constant_added_to_all_returns_changes_nothing(self, log_likelihoods, returns, where, constant):
        before = rloo(log_likelihoods, returns, where)
        after = rloo(log_likelihoods, returns + np.float32(constant), where)
        jax.tree.map(np.testing.assert_array_equal, after, before)

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_an_all_masked_group_contributes_nothing(self, garbage):
        x = jnp.array([[-1.0, -4.0], [garbage, garbage]])
        loss, metrics, gradient = rloo(x, -x, jnp.array([[True, True], [False, False]]))
        assert loss == (-3 * 1 + 3 * 4) / 2
        np.testing.assert_array_equal(metrics.policy_loss, [4.5, 0])
        np.testing.assert_array_equal(gradient, [[1.5, -1.5], [0, 0]])

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, garbage):
        x = jnp.full((2, 3), garbage)
        for value in jax.tree.leaves(rloo(x, x, jnp.zeros((2, 3), bool))):
            np.testing.assert_array_equal(value, np.zeros(value.shape))

    def test_a_lone_valid_trajectory_gives_loss_zero_and_gradient_zero(self):
        loss, _, gradient = rloo(jnp.array([-3.0, jnp.nan]), jnp.array([5.0, jnp.nan]), jnp.array([True, False]))
        assert loss == 0
        np.testing.assert_array_equal(gradient, [0, 0])

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, dtype):
        loss, metrics = rloo_loss(jnp.ones(3, dtype), jnp.ones(3, dtype))
        assert loss.dtype == metrics.policy_loss.dtype == metrics.advantages.dtype == jnp.float32
        assert metrics.num_valid.dtype == jnp.int32

    @pytest.mark.parametrize("wide", [0, 1])
    def test_float64_stays_float64(self, x64, wide):
        arrays = [np.ones(3, np.float32)] * 2
        arrays[wide] = np.array([1, 1 + 1e-9, 1])
        loss, metrics = rloo_loss(*arrays)
        assert loss.dtype == metrics.policy_loss.dtype == metrics.advantages.dtype == jnp.float64
        assert metrics.num_valid.dtype == jnp.int32
        assert wide == 0 or metrics.advantages[1] > 0

    def test_check_grads(self, x64, make_batch):
        batch = make_batch((3, 6))
        check_grads(jax.jit(lambda x: rloo_loss(x, batch.returns, where=batch.where)[0]), (batch.scores,), order=1)

    def test_refuses_a_scalar(self):
        with pytest.raises(ValueError, match="log_likelihoods must have at least one axis, got a scalar"):
            rloo_loss(jnp.float32(1), jnp.float32(1))

    def test_refuses_a_mask_that_is_not_boolean(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            rloo_loss(jnp.zeros(3), jnp.zeros(3), where=jnp.ones(3))

    @pytest.mark.parametrize("name", ["log_likelihoods", "returns", "where"])
    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
    def test_refuses_shapes_that_would_broadcast(self, name, shape):
        arrays = {"log_likelihoods": jnp.zeros((2, 3)), "returns": jnp.zeros((2, 3)), "where": jnp.ones((2, 3), bool)}
        arrays[name] = jnp.ones(shape, arrays[name].dtype)
        with pytest.raises(AssertionError) as error:
            rloo_loss(**arrays)
        assert "(2, 3)" in str(error.value) and f"{name} {shape}" in str(error.value)

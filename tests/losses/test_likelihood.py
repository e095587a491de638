"""`trajectory_log_likelihood`: values, masks, dtypes, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from haepo_jax import plackett_luce_log_weights, trajectory_log_likelihood

GARBAGE = [np.nan, np.inf, -np.inf]


def test_sums_the_steps():
    # log(1/2 * 1/2 * 1/4) and log(1/2 * 1 * 1)
    log_probs = jnp.log(jnp.array([[0.5, 0.5, 0.25], [0.5, 1.0, 1.0]]))
    np.testing.assert_allclose(jnp.exp(trajectory_log_likelihood(log_probs)), [1 / 16, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
@pytest.mark.parametrize("masked", [False, True])
def test_matches_the_reference(reference, make_batch, shape, masked):
    batch = make_batch(shape, garbage=np.nan if masked else None)
    where = batch.where if masked else None
    got = trajectory_log_likelihood(batch.scores, where=where)
    assert got.shape == shape[:-1]
    np.testing.assert_allclose(got, reference.log_likelihood(batch.scores, where), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_masked_step_adds_nothing_and_gets_no_gradient(garbage):
    log_probs = jnp.array([-1.0, garbage, -2.0])
    where = jnp.array([True, False, True])
    value, gradient = jax.value_and_grad(lambda x: trajectory_log_likelihood(x, where=where))(log_probs)
    assert value == -3
    np.testing.assert_array_equal(gradient, [1, 0, 1])


def test_all_masked_is_zero_with_zero_gradient():
    log_probs, where = jnp.full((2, 3), jnp.nan), jnp.zeros((2, 3), bool)
    np.testing.assert_array_equal(trajectory_log_likelihood(log_probs, where=where), [0, 0])
    gradient = jax.grad(lambda x: trajectory_log_likelihood(x, where=where).sum())(log_probs)
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_no_steps_is_zero():
    np.testing.assert_array_equal(trajectory_log_likelihood(jnp.zeros((2, 0))), [0, 0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
def test_narrow_input_gives_float32(dtype):
    assert trajectory_log_likelihood(jnp.zeros((2, 3), dtype)).dtype == jnp.float32


def test_float64_stays_float64(x64):
    value = trajectory_log_likelihood(jnp.array([-1.0, -1e-12]))
    assert value.dtype == jnp.float64
    assert value == -1 - 1e-12


def test_bfloat16_steps_keep_the_ranking_of_long_trajectories():
    # Sums -801, -800, -803: bfloat16 only has -800 and -804 there, which would give the weights .50 .50 .01.
    last = jnp.array([[-1.0], [0.0], [-3.0]])
    log_probs = jnp.concatenate([jnp.full((3, 800), -1.0), last], axis=-1).astype(jnp.bfloat16)
    log_likelihoods = trajectory_log_likelihood(log_probs)
    np.testing.assert_array_equal(log_likelihoods, [-801, -800, -803])
    weights = np.exp([-1, 0, -3]) / np.exp([-1, 0, -3]).sum()  # .26 .71 .04
    np.testing.assert_allclose(jnp.exp(plackett_luce_log_weights(log_likelihoods)), weights, rtol=1e-5)


def test_gradient_of_half_precision_steps_keeps_their_dtype():
    log_probs, where = jnp.full((2, 3), -1, jnp.bfloat16), jnp.array([[True, True, False]] * 2)
    gradient = jax.grad(lambda x: trajectory_log_likelihood(x, where=where).sum())(log_probs)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, where)


def test_check_grads(x64, make_batch):
    batch = make_batch((3, 5))
    check_grads(jax.jit(partial(trajectory_log_likelihood, where=batch.where)), (batch.scores,), order=1)


def test_refuses_a_scalar():
    with pytest.raises(ValueError, match="log_probs must have at least one axis"):
        trajectory_log_likelihood(jnp.float32(1))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_refuses_a_mask_that_is_not_boolean(dtype):
    with pytest.raises(TypeError, match=r"where must be boolean \(True = valid\), got dtype"):
        trajectory_log_likelihood(jnp.zeros(3), where=jnp.ones(3, dtype))


def test_refuses_complex_numbers():
    with pytest.raises(TypeError, match="log_probs must be real numbers, got dtype complex64"):
        trajectory_log_likelihood(jnp.zeros(3, jnp.complex64))


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 1)])
def test_refuses_a_mask_that_would_broadcast(shape):
    with pytest.raises(AssertionError) as error:
        trajectory_log_likelihood(jnp.zeros((2, 3)), where=jnp.ones(shape, bool))
    assert "log_probs (2, 3)" in str(error.value)
    assert f"where {shape}" in str(error.value)

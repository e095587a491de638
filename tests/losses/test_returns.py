"""Episode masks, discounted returns and their normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from haepo_jax import (
    NORMALIZATIONS,
    first_episode_mask,
    normalize_returns,
    returns_sum_not_positive,
    trajectory_returns,
)

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)

returns_of = jax.jit(trajectory_returns)
normalize = jax.jit(normalize_returns, static_argnames="method")


class TestFirstEpisodeMask:
    @pytest.mark.parametrize(
        ("done", "expected"),
        [
            ([0, 1, 0, 1], [1, 1, 0, 0]),
            ([1, 0, 0, 0], [1, 0, 0, 0]),
            ([1, 1, 1, 1], [1, 0, 0, 0]),
            ([0, 0, 0, 1], [1, 1, 1, 1]),
            ([0, 0, 0, 0], [1, 1, 1, 1]),
        ],
    )
    @pytest.mark.parametrize("dtype", [bool, jnp.int32, jnp.float32])
    def test_by_hand(self, done, expected, dtype):
        mask = first_episode_mask(jnp.array(done, dtype))
        assert mask.dtype == jnp.bool_
        np.testing.assert_array_equal(mask, np.array(expected, bool))

    @pytest.mark.parametrize("shape", SHAPES)
    def test_matches_the_reference(self, reference, shape):
        done = np.random.default_rng(0).random(shape) < 0.3
        np.testing.assert_array_equal(first_episode_mask(done), reference.first_episode_mask(done))

    def test_refuses_a_scalar(self):
        with pytest.raises(ValueError, match="done must have at least one axis"):
            first_episode_mask(jnp.array(True))


class TestTrajectoryReturns:
    # rewards 3, 4, 5
    @pytest.mark.parametrize(("discount", "expected"), [(1, 12), (0.5, 6.25), (0, 3), (-1, 4)])
    def test_by_hand(self, discount, expected):
        rewards = jnp.array([3.0, 4.0, 5.0])
        np.testing.assert_allclose(trajectory_returns(rewards, discount=discount), expected, rtol=1e-6)
        traced = returns_of(rewards, discount=discount)
        np.testing.assert_allclose(traced, expected, rtol=1e-6)

    def test_are_not_discounted_by_default(self):
        assert trajectory_returns(jnp.array([3, 4, 5])) == 12

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
    @pytest.mark.parametrize("masked", [False, True])
    def test_match_the_reference(self, reference, make_batch, shape, discount, masked):
        batch = make_batch(shape, garbage=np.nan if masked else None)
        where = batch.where if masked else np.ones(shape, bool)
        got = returns_of(batch.returns, discount=discount, where=where)
        expected = reference.discounted_return(batch.returns, discount, where)
        np.testing.assert_allclose(got, expected, rtol=1e-5)

    def test_masked_steps_still_count_as_time(self):
        rewards, where = jnp.array([8.0, jnp.nan, 8.0]), jnp.array([True, False, True])
        assert trajectory_returns(rewards, discount=0.5, where=where) == 8 + 8 / 4

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_steps_get_no_gradient(self, garbage):
        rewards, where = jnp.array([8.0, garbage, 8.0]), jnp.array([True, False, True])
        gradient = jax.grad(lambda x: trajectory_returns(x, discount=0.5, where=where))(rewards)
        np.testing.assert_array_equal(gradient, [1, 0, 0.25])

    def test_all_masked_is_zero(self):
        assert trajectory_returns(jnp.full(3, jnp.nan), where=jnp.zeros(3, bool)) == 0

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32, bool])
    def test_narrow_input_gives_float32(self, dtype):
        returns = trajectory_returns(jnp.ones((2, 300), dtype), discount=1)
        assert returns.dtype == jnp.float32
        np.testing.assert_array_equal(returns, [300, 300])

    def test_float64_stays_float64(self, x64):
        returns = trajectory_returns(jnp.array([1.0, 1e-12]), discount=0.1)
        assert returns.dtype == jnp.float64
        np.testing.assert_allclose(returns - 1, 1e-13, rtol=1e-2)

    def test_check_grads(self, x64, make_batch):
        batch = make_batch((2, 6))

        def function(rewards, discount):
            return returns_of(rewards, discount=discount, where=batch.where)

        check_grads(function, (batch.returns, 0.9), order=1)

    def test_refuse_a_scalar(self):
        with pytest.raises(ValueError, match="rewards must have at least one axis"):
            trajectory_returns(jnp.float32(1))

    @pytest.mark.parametrize("shape", [(1,), (3,)])
    def test_refuse_a_discount_that_would_broadcast(self, shape):
        with pytest.raises((ValueError, AssertionError), match="discount"):
            trajectory_returns(jnp.zeros((2, 3)), discount=jnp.ones(shape))

    def test_refuse_a_mask_that_is_not_boolean(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            trajectory_returns(jnp.zeros(3), where=jnp.ones(3))

    def test_refuse_a_mask_that_would_broadcast(self):
        with pytest.raises(AssertionError) as error:
            trajectory_returns(jnp.zeros((2, 3)), where=jnp.ones((1, 3), bool))
        assert "rewards (2, 3)" in str(error.value) and "where (1, 3)" in str(error.value)


class TestNormalizeReturns:
    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            ("sum", [0.1, 0.2, 0.3, 0.4]),
            ("zscore", np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)),  # mean 2.5, variance (2.25 + 0.25) / 2
            ("none", [1, 2, 3, 4]),
        ],
    )
    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
    def test_by_hand(self, method, expected, dtype):
        got = normalize_returns(jnp.array([1, 2, 3, 4], dtype), method=method)
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, reference, make_batch, method, shape, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = np.ones(shape, bool) if garbage is None else batch.where
        got = normalize(batch.returns, method=method, where=where)
        expected = reference.normalize(batch.returns, method, where)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    def test_zscore_is_the_default(self):
        np.testing.assert_allclose(normalize_returns(jnp.array([1.0, 3.0])), [-1, 1], rtol=1e-6)

    @pytest.mark.parametrize("value", [0.1, -1234.567, 1 / 3, 1e-30, 3e30])
    @pytest.mark.parametrize("number", [1, 3, 10])
    def test_zscore_of_equal_returns_is_exactly_zero(self, value, number):
        returns = jnp.full(number, value, jnp.float32)
        np.testing.assert_array_equal(normalize_returns(returns), np.zeros(number))
        np.testing.assert_array_equal(normalize(returns), np.zeros(number))

    def test_zscore_of_returns_that_differ_in_masked_trajectories_only_is_exactly_zero(self):
        got = normalize_returns(jnp.array([0.1, 0.1, 7.0, 0.1]), where=jnp.array([True, True, False, True]))
        np.testing.assert_array_equal(got, np.zeros(4))

    def test_zscore_keeps_small_differences_on_a_large_offset(self):
        # mean 1e6 + 1, standard deviation 1
        np.testing.assert_allclose(normalize_returns(jnp.array([1e6, 1e6 + 2])), [-1, 1], rtol=1e-6)

    @pytest.mark.parametrize("scale", [1.0, 1e19, 1e25, 1e38])
    def test_zscore_of_any_number_that_float32_holds(self, reference, scale):
        returns = np.float32(scale) * np.array([-3.0, 0.25, 1.0, 3.0], np.float32)
        expected = reference.normalize(returns.astype(np.float64), "zscore")
        for function in (normalize, normalize_returns):
            np.testing.assert_allclose(function(returns), expected, rtol=1e-5)
            np.testing.assert_array_equal(function(np.full(3, 3 * scale, np.float32)), np.zeros(3))
        slopes = jax.grad(lambda factor: normalize(factor * returns)[0])(1.0)
        np.testing.assert_allclose(slopes, 0, atol=1e-5)  # in no unit

    @PROPERTY
    @given(arrays(np.float32, 6, elements=st.integers(-1000, 1000)), st.integers(-1000, 1000), st.integers(0, 6))
    def test_zscore_ignores_shift_and_scale(self, returns, shift, scale):
        # integers and powers of two, so that the arithmetic on the returns is exact
        np.testing.assert_allclose(normalize((returns + shift) * 2.0**scale), normalize(returns), rtol=1e-5, atol=1e-5)

    @PROPERTY
    @given(arrays(np.float32, 6, elements=st.floats(-1e5, 1e5, width=32)), arrays(bool, 6))
    def test_zscore_has_mean_zero_and_at_most_unit_variance(self, returns, where):
        normalized = np.asarray(normalize(returns, where=where), np.float64)
        count = max(where.sum(), 1)
        np.testing.assert_allclose(normalized.sum() / count, 0, atol=1e-5)
        assert (normalized**2).sum() / count <= 1 + 1e-5

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_returns_are_exactly_zero(self, method, garbage):
        returns, where = jnp.array([1.0, garbage, 3.0]), jnp.array([True, False, True])
        got = normalize_returns(returns, method=method, where=where)
        dropped = normalize_returns(jnp.array([1.0, 3.0]), method=method)
        np.testing.assert_allclose(got, [dropped[0], 0, dropped[1]], rtol=1e-6)
        assert got[1] == 0

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    def test_all_masked_is_zero(self, method):
        returns, where = jnp.array([[jnp.nan, -1], [2, 2]]), jnp.array([[False, False], [True, True]])
        got = normalize_returns(returns, method=method, where=where)
        np.testing.assert_array_equal(got, [[0, 0], {"zscore": [0, 0], "sum": [0.5, 0.5], "none": [2, 2]}[method]])

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, method, dtype):
        assert normalize_returns(jnp.array([1, 2, 3], dtype), method=method).dtype == jnp.float32

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    def test_float64_stays_float64(self, x64, reference, method):
        returns = np.array([1.0, 1 + 1e-9, 3.0])
        got = normalize_returns(returns, method=method)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, reference.normalize(returns, method), rtol=1e-13)

    @pytest.mark.parametrize("method", NORMALIZATIONS)
    def test_check_grads(self, x64, make_batch, method):
        batch = make_batch((2, 6))
        check_grads(lambda x: normalize(x, method=method, where=batch.where), (batch.returns,), order=1)

    def test_gradient_of_equal_returns_is_finite(self):
        jacobian = jax.jit(jax.jacobian(normalize_returns))(jnp.full(3, 0.1))
        assert np.isfinite(jacobian).all()

    @pytest.mark.parametrize("returns", [[1.0, -2.0], [1.0, -1.0], [0.0, 0.0], [[1.0, 2.0], [-1.0, 0.5]]])
    def test_sum_refuses_returns_whose_sum_is_not_positive(self, returns):
        with pytest.raises(ValueError, match="method 'sum' needs returns with a positive sum in every group"):
            normalize_returns(jnp.array(returns), method="sum")

    def test_sum_looks_at_valid_trajectories_alone(self):
        returns, where = jnp.array([[1.0, -5.0], [-1.0, 5.0]]), jnp.array([[True, False], [False, True]])
        np.testing.assert_array_equal(normalize_returns(returns, method="sum", where=where), [[1, 0], [0, 1]])
        with pytest.raises(ValueError, match="positive sum"):
            normalize_returns(returns, method="sum", where=~where)

    @pytest.mark.parametrize("bad", [[1.0, -2.0], [1.0, -1.0]])
    def test_sum_of_traced_returns_is_zero_in_the_groups_it_cannot_rank(self, bad):
        got = normalize(jnp.array([bad, [1.0, 3.0]]), method="sum")
        np.testing.assert_array_equal(got, [[0, 0], [0.25, 0.75]])

    def test_refuse_an_unknown_method(self):
        with pytest.raises(ValueError, match="method must be one of zscore, sum, none, got 'rank'"):
            normalize_returns(jnp.zeros(3), method="rank")

    def test_refuse_a_scalar(self):
        with pytest.raises(ValueError, match="returns must have at least one axis"):
            normalize_returns(jnp.float32(1))

    def test_refuse_a_mask_that_is_not_boolean(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            normalize_returns(jnp.zeros(3), where=jnp.ones(3))

    def test_refuse_a_mask_that_would_broadcast(self):
        with pytest.raises(AssertionError) as error:
            normalize_returns(jnp.zeros((2, 3)), where=jnp.ones(3, bool))
        assert "returns (2, 3)" in str(error.value) and "where (3,)" in str(error.value)


class TestReturnsSumNotPositive:
    def test_flags_groups_with_a_sum_of_zero_or_less(self):
        returns = jnp.array([[1.0, 2.0], [1.0, -2.0], [1.0, -1.0], [0.0, 0.0]])
        np.testing.assert_array_equal(returns_sum_not_positive(returns), [False, True, True, True])

    def test_looks_at_valid_trajectories_alone(self):
        returns = jnp.array([[1.0, -5.0], [-1.0, 5.0], [-1.0, -1.0]])
        where = jnp.array([[True, False], [True, False], [False, False]])
        np.testing.assert_array_equal(returns_sum_not_positive(returns, where=where), [False, True, False])

    def test_refuses_a_scalar(self):
        with pytest.raises(ValueError, match="returns must have at least one axis"):
            returns_sum_not_positive(jnp.float32(1))

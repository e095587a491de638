"""Scores, Plackett-Luce log-weights, and how spread out they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from haepo_jax import (
    SCORES,
    effective_sample_size,
    plackett_luce_log_weights,
    trajectory_scores,
    weights_entropy,
    weights_kl,
)

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
FINITE = arrays(np.float32, 6, elements=st.floats(-1e5, 1e5, width=32))
EIGHTHS = st.integers(-(2**16), 2**16).map(lambda n: n / 8)  # sums of these are exact in float32
EXACT = arrays(np.float32, 6, elements=EIGHTHS)

scores_of = jax.jit(trajectory_scores, static_argnames="kind")
log_weights_of = jax.jit(plackett_luce_log_weights)
entropy_of = jax.jit(weights_entropy)
kl_of = jax.jit(weights_kl)
sample_size_of = jax.jit(effective_sample_size)
SPREADS = {"entropy": entropy_of, "effective_sample_size": sample_size_of}


class TestScores:
    # L = -2, -6 over 2, 3 steps, sampled at -1, -7
    @pytest.mark.parametrize(("kind", "expected"), [("sum", [-2, -6]), ("mean", [-1, -2]), ("log_ratio", [-1, 1])])
    def test_by_hand(self, kind, expected):
        scores = trajectory_scores(
            jnp.array([-2.0, -6.0]),
            kind=kind,
            lengths=jnp.array([2, 3]),
            behaviour_log_likelihoods=jnp.array([-1.0, -7.0]),
        )
        np.testing.assert_array_equal(scores, expected)

    @pytest.mark.parametrize("kind", SCORES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_match_the_reference(self, reference, make_batch, kind, shape):
        batch, lengths = make_batch(shape), np.random.default_rng(1).integers(1, 9, shape)
        likelihoods, behaviour = batch.scores, batch.reference_scores
        got = scores_of(likelihoods, kind=kind, lengths=lengths, behaviour_log_likelihoods=behaviour)
        np.testing.assert_allclose(got, reference.scores(kind, likelihoods, lengths, behaviour), rtol=1e-5, atol=1e-6)

    def test_sum_is_the_default(self):
        np.testing.assert_array_equal(trajectory_scores(jnp.array([-2.0, -6.0])), [-2, -6])

    def test_a_length_of_zero_is_read_as_one(self):
        scores = trajectory_scores(jnp.array([0.0, -6.0]), kind="mean", lengths=jnp.array([0, 3]))
        np.testing.assert_array_equal(scores, [0, -2])

    def test_gradient_of_mean_is_one_over_the_length(self):
        def total(likelihoods, lengths):
            return trajectory_scores(likelihoods, kind="mean", lengths=lengths).sum()

        gradients = jax.grad(total, argnums=(0, 1))(jnp.array([-2.0, -6.0]), jnp.array([2.0, 4.0]))
        np.testing.assert_array_equal(gradients, [[0.5, 0.25], [0, 0]])

    def test_the_behaviour_policy_is_a_constant_to_the_gradient(self):
        def total(likelihoods):
            return trajectory_scores(likelihoods, kind="log_ratio", behaviour_log_likelihoods=likelihoods).sum()

        np.testing.assert_array_equal(jax.grad(total)(jnp.array([-2.0, -6.0])), [1, 1])

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    @pytest.mark.parametrize("kind", SCORES)
    def test_narrow_input_gives_float32(self, kind, dtype):
        x = jnp.ones(2, dtype)
        scores = trajectory_scores(x, kind=kind, lengths=jnp.ones(2, int), behaviour_log_likelihoods=x)
        assert scores.dtype == jnp.float32

    @pytest.mark.parametrize("kind", SCORES)
    def test_float64_stays_float64(self, x64, kind):
        x = jnp.ones(2, jnp.float64)
        scores = trajectory_scores(x, kind=kind, lengths=jnp.ones(2), behaviour_log_likelihoods=x.astype(jnp.float32))
        assert scores.dtype == jnp.float64

    def test_refuse_an_unknown_kind(self):
        with pytest.raises(ValueError, match="kind must be one of sum, mean, log_ratio, got 'median'"):
            trajectory_scores(jnp.zeros(2), kind="median")

    def test_mean_refuses_to_go_without_lengths(self):
        with pytest.raises(ValueError, match="kind 'mean' needs lengths"):
            trajectory_scores(jnp.zeros(2), kind="mean")

    def test_log_ratio_refuses_to_go_without_the_behaviour_policy(self):
        with pytest.raises(ValueError, match="kind 'log_ratio' needs behaviour_log_likelihoods"):
            trajectory_scores(jnp.zeros(2), kind="log_ratio")

    @pytest.mark.parametrize(("kind", "argument"), [("mean", "lengths"), ("log_ratio", "behaviour_log_likelihoods")])
    def test_refuse_to_broadcast(self, kind, argument):
        with pytest.raises(AssertionError) as error:
            trajectory_scores(jnp.zeros(4), kind=kind, **{argument: jnp.ones(1)})
        assert "log_likelihoods (4,)" in str(error.value)
        assert f"{argument} (1,)" in str(error.value)


class TestLogWeights:
    def test_are_a_softmax(self):
        got = jnp.exp(plackett_luce_log_weights(jnp.log(jnp.array([1.0, 3.0, 4.0]))))
        np.testing.assert_allclose(got, [1 / 8, 3 / 8, 4 / 8], rtol=1e-6)

    def test_temperature_divides_the_scores(self):
        # exp(log(9) / 2) = 3
        got = plackett_luce_log_weights(jnp.log(jnp.array([1.0, 9.0, 16.0])), temperature=2.0)
        np.testing.assert_allclose(jnp.exp(got), [1 / 8, 3 / 8, 4 / 8], rtol=1e-6)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, reference, make_batch, shape, temperature, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = np.ones(shape, bool) if garbage is None else batch.where
        got = log_weights_of(batch.scores, temperature=temperature, where=where)
        expected = reference.log_weights(batch.scores, temperature, where)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

    @PROPERTY
    @given(EXACT, EIGHTHS)
    def test_a_constant_added_to_all_scores_changes_nothing(self, scores, constant):
        np.testing.assert_array_equal(log_weights_of(scores + np.float32(constant)), log_weights_of(scores))

    @PROPERTY
    @given(FINITE, st.permutations(range(6)))
    def test_permuted_trajectories_have_permuted_weights(self, scores, order):
        order = np.array(order)
        np.testing.assert_allclose(log_weights_of(scores[order]), log_weights_of(scores)[order], rtol=1e-6, atol=1e-6)

    @PROPERTY
    @given(FINITE, arrays(bool, 6))
    def test_sum_to_one_unless_all_are_masked(self, scores, where):
        weights = np.exp(log_weights_of(scores, where=where))
        np.testing.assert_allclose(weights.sum(), float(where.any()), rtol=1e-6)

    @PROPERTY
    @given(FINITE, st.permutations(range(6)), st.sampled_from(GARBAGE))
    def test_a_masked_trajectory_equals_a_dropped_one(self, scores, order, garbage):
        masked, kept = order[:2], sorted(order[2:])
        scores[masked] = garbage
        got = log_weights_of(scores, where=~np.isin(np.arange(6), masked))
        np.testing.assert_allclose(got[jnp.array(kept)], log_weights_of(scores[kept]), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(got[jnp.array(masked)], [-np.inf, -np.inf])

    def test_a_score_of_minus_infinity_equals_a_mask(self):
        scores = jnp.array([1.0, -jnp.inf, 2.0])
        masked = plackett_luce_log_weights(scores, where=jnp.array([True, False, True]))
        np.testing.assert_array_equal(plackett_luce_log_weights(scores), masked)

    def test_all_masked_have_no_weight(self):
        got = plackett_luce_log_weights(
            jnp.array([[1.0, jnp.nan], [0, 0]]), where=jnp.array([[False] * 2, [True] * 2])
        )
        np.testing.assert_allclose(jnp.exp(got), [[0, 0], [0.5, 0.5]])

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_gradients_ignore_masked_trajectories(self, garbage):
        where = jnp.array([[True, False, True], [False] * 3])

        def value(scores, temperature):
            weights = jnp.exp(plackett_luce_log_weights(scores, temperature=temperature, where=where))
            return (weights * jnp.array([[1.0, 2, 3], [4, 5, 6]])).sum()

        finite = jnp.array([[0.5, 0, 1.5], [0, 0, 0]])
        got = jax.jit(jax.grad(value, argnums=(0, 1)))(jnp.where(where, finite, garbage), 2.0)
        # w = softmax(0.5 / 2, 1.5 / 2), the value is w0 + 3 w2; by the product rule with w0 + w2 = 1
        w0, w2 = 1 / (1 + np.exp(0.5)), 1 / (1 + np.exp(-0.5))
        np.testing.assert_allclose(got[0], [[-w0 * w2, 0, w0 * w2], [0, 0, 0]], rtol=1e-5)
        np.testing.assert_allclose(got[1], -w0 * w2 / 2, rtol=1e-5)
        np.testing.assert_array_equal(np.asarray(got[0])[~where], 0)

    def test_gradient_ignores_a_score_of_minus_infinity(self):
        gradient = jax.grad(lambda x: jnp.exp(plackett_luce_log_weights(x))[0])(jnp.array([0.0, -jnp.inf, 0.0]))
        np.testing.assert_allclose(gradient, [0.25, 0, -0.25], rtol=1e-6)

    def test_a_single_trajectory_has_all_the_weight_and_no_gradient(self):
        value, gradient = jax.value_and_grad(lambda x: plackett_luce_log_weights(x)[0])(jnp.array([-7.0]))
        assert value == 0
        np.testing.assert_array_equal(gradient, [0])

    @pytest.mark.parametrize("scores", [[1e5, -1e5, 0.0], [-1e5, -1e5 - 1, -2e5], [3e38, 0.0, 1e38]])
    def test_huge_scores_do_not_overflow(self, reference, scores):
        scores = np.array(scores, np.float32)
        np.testing.assert_allclose(plackett_luce_log_weights(scores), reference.log_weights(scores), rtol=1e-6)
        gradient = jax.jit(jax.grad(lambda x: jnp.exp(plackett_luce_log_weights(x))[0]))(scores)
        assert np.isfinite(gradient).all()

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, dtype):
        temperature = jnp.array(2, jnp.bfloat16)
        assert plackett_luce_log_weights(jnp.arange(3).astype(dtype), temperature=temperature).dtype == jnp.float32

    def test_float64_stays_float64(self, x64, reference):
        scores = np.array([0.0, 1e-12, -3.0])
        got = plackett_luce_log_weights(scores, temperature=jnp.float32(0.5))
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, reference.log_weights(scores, 0.5), rtol=1e-14)

    def test_check_grads(self, x64, make_batch):
        batch = make_batch((2, 6))

        @jax.jit
        def weights(scores, temperature):
            return jnp.exp(plackett_luce_log_weights(scores, temperature=temperature, where=batch.where))

        check_grads(weights, (batch.scores, 0.7), order=1)

    def test_refuse_a_scalar_score(self):
        with pytest.raises(ValueError, match="scores must have at least one axis"):
            plackett_luce_log_weights(jnp.float32(1))

    @pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan"), np.float32(-1), jnp.float32(0)])
    def test_refuse_a_temperature_that_is_not_positive(self, temperature):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            plackett_luce_log_weights(jnp.zeros(3), temperature=temperature)
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            jax.jit(lambda x: plackett_luce_log_weights(x, temperature=temperature))(jnp.zeros(3))

    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 3)])
    def test_refuse_a_temperature_that_would_broadcast(self, shape):
        with pytest.raises((ValueError, AssertionError), match="temperature"):
            plackett_luce_log_weights(jnp.zeros((2, 3)), temperature=jnp.ones(shape))

    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
    def test_refuse_a_mask_that_is_not_boolean(self, dtype):
        with pytest.raises(TypeError, match="where must be boolean"):
            plackett_luce_log_weights(jnp.zeros(3), where=jnp.ones(3, dtype))

    def test_refuse_a_mask_that_would_broadcast(self):
        with pytest.raises(AssertionError) as error:
            plackett_luce_log_weights(jnp.zeros((2, 3)), where=jnp.ones(3, bool))
        assert "scores (2, 3)" in str(error.value) and "where (3,)" in str(error.value)


class TestSpread:
    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            ([1 / 4, 1 / 4, 1 / 4, 1 / 4], 2 * np.log(2)),
            ([1 / 2, 1 / 4, 1 / 4, 0], 1.5 * np.log(2)),  # log(2) / 2 + 2 * log(4) / 4
            ([1, 0, 0, 0], 0),
            ([0, 0, 0, 0], 0),
        ],
    )
    def test_entropy_by_hand(self, weights, expected):
        log_weights = np.log(weights, where=np.array(weights) > 0, out=np.full(4, -np.inf))
        np.testing.assert_allclose(weights_entropy(log_weights), expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            ([1 / 4, 1 / 4, 1 / 4, 1 / 4], 4),
            ([1 / 2, 1 / 4, 1 / 4, 0], 8 / 3),  # 1 / (1/4 + 1/16 + 1/16)
            ([1, 0, 0, 0], 1),
            ([0, 0, 0, 0], 0),
        ],
    )
    def test_effective_sample_size_by_hand(self, weights, expected):
        log_weights = np.log(weights, where=np.array(weights) > 0, out=np.full(4, -np.inf))
        np.testing.assert_allclose(effective_sample_size(log_weights), expected, rtol=1e-6)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_match_the_reference(self, reference, make_batch, shape):
        batch = make_batch(shape)
        log_weights = reference.log_weights(batch.scores, where=batch.where)
        other = reference.log_weights(batch.reference_scores, where=batch.where)
        for name, function in SPREADS.items():
            np.testing.assert_allclose(function(log_weights), getattr(reference, name)(log_weights), rtol=1e-5)
        np.testing.assert_allclose(kl_of(log_weights, other), reference.kl(log_weights, other), rtol=1e-5)

    @PROPERTY
    @given(FINITE, arrays(bool, 6))
    def test_entropy_lies_between_zero_and_log_m(self, scores, where):
        entropy = entropy_of(log_weights_of(scores, where=where))
        assert -1e-6 <= entropy <= np.log(max(where.sum(), 1)) + 1e-6

    @PROPERTY
    @given(FINITE, arrays(bool, 6))
    def test_effective_sample_size_lies_between_one_and_m(self, scores, where):
        size = sample_size_of(log_weights_of(scores, where=where))
        assert where.any() - 1e-5 <= size <= where.sum() + 1e-5

    @PROPERTY
    @given(FINITE, FINITE, arrays(bool, 6))
    def test_kl_is_finite_and_not_negative(self, scores, reference_scores, where):
        kl = kl_of(log_weights_of(scores, where=where), log_weights_of(reference_scores, where=where))
        assert np.isfinite(kl) and kl >= -1e-6

    @PROPERTY
    @given(FINITE, arrays(bool, 6))
    def test_kl_to_itself_is_exactly_zero(self, scores, where):
        log_weights = log_weights_of(scores, where=where)
        assert kl_of(log_weights, log_weights) == 0

    def test_kl_by_hand(self):
        # log(2) / 2 + log(2/3) / 2, and log(1/2) / 4 + 3/4 log(3/2) the other way round
        half, skewed = jnp.log(jnp.array([1 / 2, 1 / 2])), jnp.log(jnp.array([1 / 4, 3 / 4]))
        np.testing.assert_allclose(weights_kl(half, skewed), np.log(4 / 3) / 2, rtol=1e-5)
        np.testing.assert_allclose(weights_kl(skewed, half), -np.log(2) / 4 + 0.75 * np.log(3 / 2), rtol=1e-5)

    def test_kl_is_infinite_where_the_reference_has_no_weight(self):
        assert weights_kl(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([1.0, 0.0]))) == np.inf

    def test_kl_needs_no_reference_weight_where_the_policy_has_none(self):
        # 104 nats below the largest, a float32 weight is 0
        log_weights, reference_log_weights = jnp.array([0.0, -200.0, -jnp.inf]), jnp.array([0.0, -jnp.inf, -jnp.inf])
        assert weights_kl(log_weights, reference_log_weights) == 0

    def test_gradient_of_kl_is_zero_at_the_reference_alone(self):
        scores = jnp.array([0.0, 1.0, -0.5, 2.0])

        def kl(scores, reference_scores):
            return weights_kl(plackett_luce_log_weights(scores), plackett_luce_log_weights(reference_scores))

        np.testing.assert_allclose(jax.grad(kl)(scores, scores), np.zeros(4), atol=1e-7)
        assert np.abs(jax.grad(kl)(scores, -scores)).min() > 1e-2

    @pytest.mark.parametrize("function", SPREADS.values(), ids=SPREADS)
    def test_absent_trajectories_get_no_gradient(self, function):
        log_weights = jnp.array([[np.log(0.5), -np.inf, np.log(0.5)], [-np.inf] * 3])
        gradient = jax.grad(lambda x: function(x).sum())(log_weights)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(np.asarray(gradient) == 0, np.isinf(log_weights))

    def test_absent_trajectories_get_no_gradient_from_kl(self):
        log_weights = jnp.array([[np.log(0.5), -np.inf, np.log(0.5)], [-np.inf] * 3])
        reference_log_weights = jnp.array([[np.log(0.2), -np.inf, np.log(0.8)], [-np.inf] * 3])
        for argument in (0, 1):
            gradient = jax.grad(lambda *x: weights_kl(*x).sum(), argument)(log_weights, reference_log_weights)
            assert np.isfinite(gradient).all()
            np.testing.assert_array_equal(np.asarray(gradient) == 0, np.isinf(log_weights))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    def test_narrow_input_gives_float32(self, dtype):
        log_weights = jnp.log(jnp.full(4, 0.25)).astype(dtype)
        results = [function(log_weights) for function in SPREADS.values()] + [weights_kl(log_weights, log_weights)]
        assert {result.dtype for result in results} == {jnp.dtype(jnp.float32)}

    def test_float64_stays_float64(self, x64):
        log_weights = jnp.log(jnp.full(3, 1 / 3))
        np.testing.assert_allclose(weights_entropy(log_weights), np.log(3), rtol=1e-14)
        np.testing.assert_allclose(effective_sample_size(log_weights), 3, rtol=1e-14)
        other = jnp.log(jnp.array([0.2, 0.2, 0.6]))
        assert weights_kl(log_weights.astype(jnp.float32), other).dtype == jnp.float64

    def test_check_grads(self, x64, make_batch):
        batch = make_batch((2, 6))
        log_weights, other = batch.scores - 3, batch.reference_scores - 3
        check_grads(entropy_of, (log_weights,), order=1)
        check_grads(sample_size_of, (log_weights,), order=1)
        check_grads(kl_of, (log_weights, other), order=1)

    def test_refuse_scalars(self):
        with pytest.raises(ValueError, match="log_weights must have at least one axis"):
            weights_entropy(jnp.float32(0))
        with pytest.raises(ValueError, match="log_weights must have at least one axis"):
            effective_sample_size(jnp.float32(0))
        with pytest.raises(ValueError, match="log_weights must have at least one axis"):
            weights_kl(jnp.float32(0), jnp.float32(0))

    def test_kl_refuses_to_broadcast(self):
        with pytest.raises(AssertionError) as error:
            weights_kl(jnp.zeros(4), jnp.zeros(1))
        assert "log_weights (4,)" in str(error.value) and "reference_log_weights (1,)" in str(error.value)

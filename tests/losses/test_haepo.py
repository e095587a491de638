"""`haepo_loss` and `haepo_coefficients`: values, gradients, masks, dtypes, errors."""

from functools import partial
from typing import NamedTuple

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
    HaepoMetrics,
    haepo_coefficients,
    haepo_loss,
    normalize_returns,
    reinforce_loss,
    trajectory_scores,
)

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]
COEFFICIENTS = {"entropy_coef": 0.3, "kl_coef": 0.2}
FREE = {"entropy_coef": 0.0, "kl_coef": 0.0}

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
LARGE = arrays(np.float32, 6, elements=st.floats(-1e5, 1e5, width=32))
SMALL = arrays(np.float32, 6, elements=st.floats(-20, 20, width=32))
POSITIVE = arrays(np.float32, 6, elements=st.floats(1, 20, width=32))
EIGHTHS = st.integers(-8000, 8000).map(lambda n: n / 8)  # sums of these are exact in float32
EXACT = arrays(np.float32, 6, elements=EIGHTHS)
MASK = arrays(bool, 6)
ORDER = st.permutations(range(6))


class Result(NamedTuple):
    loss: jax.Array
    metrics: HaepoMetrics
    gradient: jax.Array
    coefficients: jax.Array


def evaluate(scores, returns, reference_scores=None, *, where=None, normalization="zscore", **settings):
    """The loss, its gradient with respect to the scores, and the coefficients that should equal it."""
    where = np.ones(np.shape(scores), bool) if where is None else where
    settings = COEFFICIENTS | {"temperature": 1.0} | settings
    return _evaluate(scores, returns, reference_scores, where, settings, normalization)


@partial(jax.jit, static_argnames="normalization")
def _evaluate(scores, returns, reference_scores, where, settings, normalization):
    options = {"where": where, "normalization": normalization, **settings}
    if reference_scores is None:
        options["kl_coef"] = 0

    def loss(scores):
        return haepo_loss(scores, returns, reference_scores, **options)

    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(scores)
    return Result(value, metrics, gradient, haepo_coefficients(scores, returns, reference_scores, **options))


@jax.jit
@partial(jax.grad, argnums=(0, 1, 2))
def gradient_of_settings(entropy_coef, kl_coef, temperature, batch, where):
    settings = {"entropy_coef": entropy_coef, "kl_coef": kl_coef, "temperature": temperature}
    return haepo_loss(*batch, where=where, **settings)[0]


@pytest.fixture(params=[False, True], ids=["without_reference", "with_reference"])
def with_reference(request):
    return request.param


@pytest.fixture(params=NORMALIZATIONS)
def normalization(request):
    return request.param


class TestValue:
    # scores log 1, log 3 are the weights 1/4, 3/4
    @pytest.mark.parametrize(
        ("normalization", "returns", "expected"),
        [
            ("zscore", [4.0, 6.0], -0.5),  # -(-1/4 + 3/4)
            ("sum", [1.0, 3.0], -0.625),  # -(1/4 * 1/4 + 3/4 * 3/4)
            ("none", [10.0, 20.0], -17.5),  # -(10/4 + 3 * 20/4)
        ],
    )
    def test_policy_term_by_hand(self, normalization, returns, expected):
        scores = jnp.log(jnp.array([1.0, 3.0]))
        got = evaluate(scores, jnp.array(returns), scores, normalization=normalization, **FREE)
        np.testing.assert_allclose([got.loss, got.metrics.policy_loss], [expected] * 2, rtol=1e-6)

    def test_regularisers_by_hand(self):
        # equal returns drop out; H = log(4)/4 + 3/4 log(4/3); the reference is uniform, so KL = log(2) - H
        scores, equal = jnp.log(jnp.array([1.0, 3.0])), jnp.array([7.0, 7.0])
        got = evaluate(scores, equal, jnp.array([-9.0, -9.0]), entropy_coef=0.3, kl_coef=0.2)
        entropy = np.log(4) / 4 + 0.75 * np.log(4 / 3)
        np.testing.assert_allclose(got.metrics.entropy, entropy, rtol=1e-6)
        np.testing.assert_allclose(got.metrics.kl, np.log(2) - entropy, rtol=1e-5)
        np.testing.assert_allclose(got.loss, -0.3 * entropy + 0.2 * (np.log(2) - entropy), rtol=1e-5)

    def test_metrics_by_hand(self):
        scores = jnp.log(jnp.array([1.0, 3.0]))
        metrics = evaluate(scores, jnp.array([4.0, 6.0]), scores).metrics
        np.testing.assert_allclose(jnp.exp(metrics.log_weights), [0.25, 0.75], rtol=1e-6)
        np.testing.assert_allclose(metrics.normalized_returns, [-1, 1], rtol=1e-6)
        np.testing.assert_allclose(metrics.effective_sample_size, 1.6, rtol=1e-6)  # 1 / (1/16 + 9/16)
        np.testing.assert_allclose(metrics.max_weight, 0.75, rtol=1e-6)
        assert metrics.num_valid == 2
        assert metrics.kl == 0
        assert not metrics.returns_sum_not_positive

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
    @pytest.mark.parametrize("garbage", [None, np.nan])
    def test_matches_the_reference(
        self, reference, make_batch, shape, temperature, garbage, normalization, with_reference
    ):
        batch = make_batch(shape, garbage=garbage)
        arrays = batch.scores, batch.returns, batch.reference_scores if with_reference else None
        options = {
            "temperature": temperature,
            "normalization": normalization,
            "where": np.ones(shape, bool) if garbage is None else batch.where,
            **COEFFICIENTS,
        }
        got, expected = evaluate(*arrays, **options), reference.haepo(*arrays, **options)
        assert got.loss.shape == ()
        np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-5, atol=1e-6)
        for name in HaepoMetrics._fields:
            value, wanted = getattr(got.metrics, name), getattr(expected, name)
            assert value.shape == wanted.shape, name
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=2e-6, err_msg=name)

    def test_matches_the_reference_in_double_precision(self, x64, reference, make_batch, normalization):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        options = {"temperature": 0.7, "normalization": normalization, "where": batch.where, **COEFFICIENTS}
        got, expected = evaluate(*batch[:3], **options), reference.haepo(*batch[:3], **options)
        np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-13)
        for name in HaepoMetrics._fields:
            value, wanted = getattr(got.metrics, name), getattr(expected, name)
            np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-15, err_msg=name)

    def test_is_the_mean_over_groups(self, make_batch):
        batch = make_batch((2, 3, 6))
        groups = [array.reshape(6, 6) for array in batch[:3]]
        parts = [evaluate(*group).loss for group in zip(*groups, strict=True)]
        whole = evaluate(*batch[:3]).loss
        np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-6)

    def test_the_defaults_are_zscore_at_temperature_one_and_no_mask(self, make_batch):
        batch = make_batch((6,))
        loss, _ = jax.jit(partial(haepo_loss, **COEFFICIENTS))(*batch[:3])
        np.testing.assert_allclose(loss, evaluate(*batch[:3]).loss, rtol=1e-6)

    @PROPERTY
    @given(EXACT, EXACT, EXACT, EIGHTHS, EIGHTHS)
    def test_a_constant_added_to_all_scores_changes_nothing(self, scores, returns, reference_scores, one, other):
        before = evaluate(scores, returns, reference_scores)
        after = evaluate(scores + np.float32(one), returns, reference_scores + np.float32(other))
        jax.tree.map(np.testing.assert_array_equal, after, before)

    @PROPERTY
    @given(SMALL, POSITIVE, SMALL, MASK, ORDER, st.sampled_from(NORMALIZATIONS))
    def test_permuting_trajectories_permutes_the_result(
        self, scores, returns, reference_scores, where, order, normalization
    ):
        arrays, order = (scores, returns, reference_scores), np.array(order)
        before = evaluate(*arrays, where=where, normalization=normalization)
        after = evaluate(*(array[order] for array in arrays), where=where[order], normalization=normalization)
        permuted = jax.tree.map(lambda value: value[order] if value.ndim else value, before)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), after, permuted)

    @PROPERTY
    @given(LARGE, EXACT, LARGE, MASK, st.sampled_from(NORMALIZATIONS))
    def test_finite_input_gives_finite_output(self, scores, returns, reference_scores, where, normalization):
        got = evaluate(scores, returns, reference_scores, where=where, normalization=normalization)
        np.testing.assert_array_equal(np.isfinite(got.metrics.log_weights), where)
        rest = got._replace(metrics=got.metrics._replace(log_weights=0))
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(rest))

    def test_a_single_trajectory_has_nothing_to_compete_with(self, normalization):
        one = jnp.array([2.0])
        got = evaluate(-one, one, one, normalization=normalization)
        assert got.loss == {"zscore": 0, "sum": -1, "none": -2}[normalization]
        assert got.metrics.effective_sample_size == got.metrics.max_weight == 1
        np.testing.assert_array_equal([got.gradient, got.coefficients], [[0], [0]])

    def test_long_trajectories_do_not_overflow(self, reference):
        batch = np.array([[1e5, -1e5, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [-1e5, 1e5, 0, 0, 0, 0]], np.float32)
        options = {"temperature": 1.0, "normalization": "zscore", "where": np.ones(6, bool), **COEFFICIENTS}
        got = evaluate(*batch, **options)
        np.testing.assert_allclose(got.loss, reference.haepo(*batch, **options).loss, rtol=1e-6)
        np.testing.assert_allclose(got.gradient, reference.coefficients(*batch, **options), atol=1e-6)


class TestEffect:
    """What minimising each term alone does to the weights of four trajectories."""

    SCORES = (2.0, 0.0, -1.0, 1.0)
    REFERENCE = (0.0, 1.0, 0.5, -0.5)
    EQUAL = (1.0, 1.0, 1.0, 1.0)

    def descend(self, returns, **options):
        scores, history = jnp.array(self.SCORES), []
        for _ in range(30):
            got = evaluate(scores, jnp.array(returns), jnp.array(self.REFERENCE), **FREE | options)
            scores -= got.gradient
            history.append(got.metrics)
        return jax.tree.map(lambda *values: np.stack(values), *history)

    def test_entropy_coef_spreads_the_weights(self):
        history = self.descend(self.EQUAL, entropy_coef=1.0)
        assert (np.diff(history.entropy) > 0).all()
        assert history.entropy[0] < 1 and history.entropy[-1] > 0.99 * np.log(4)

    def test_kl_coef_draws_the_weights_to_the_reference(self):
        history = self.descend(self.EQUAL, kl_coef=1.0)
        assert (np.diff(history.kl) < 0).all()
        assert history.kl[0] > 0.5 and history.kl[-1] < 0.01

    def test_the_weighted_return_rises(self, normalization):
        history = self.descend((1.0, 2.0, 4.0, 3.0), normalization=normalization)
        assert (np.diff(history.policy_loss) < 0).all()
        assert np.exp(history.log_weights[-1, 0]) < np.exp(history.log_weights[0, 0]) / 3  # the worst one's


class TestGradient:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("temperature", [1.0, 0.5])
    @pytest.mark.parametrize("garbage", [None, np.nan])
    def test_is_the_coefficients(
        self, reference, make_batch, shape, temperature, garbage, normalization, with_reference
    ):
        batch = make_batch(shape, garbage=garbage)
        arrays = batch.scores, batch.returns, batch.reference_scores if with_reference else None
        where = np.ones(shape, bool) if garbage is None else batch.where
        options = {"temperature": temperature, "normalization": normalization, "where": where, **COEFFICIENTS}
        got = evaluate(*arrays, **options)
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.coefficients, reference.coefficients(*arrays, **options), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.coefficients.sum(-1), np.zeros(shape[:-1]), atol=1e-6)
        np.testing.assert_array_equal(np.asarray(got.coefficients)[~where], 0)

    def test_is_the_coefficients_in_double_precision(self, x64, reference, make_batch, normalization):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        options = {"temperature": 0.7, "normalization": normalization, "where": batch.where, **COEFFICIENTS}
        got, expected = evaluate(*batch[:3], **options), reference.coefficients(*batch[:3], **options)
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(got.coefficients, expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(got.coefficients.sum(-1), np.zeros((2, 3)), atol=1e-15)

    def test_coefficients_by_hand(self):
        # w = 1/4, 3/4; f = 1, -1; sum w f = -1/2; c = (1/4)(3/2), (3/4)(-1/2)
        scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([4.0, 6.0])
        np.testing.assert_allclose(evaluate(scores, returns, scores, **FREE).coefficients, [0.375, -0.375], rtol=1e-6)
        halved = evaluate(2 * scores, returns, scores, temperature=2.0, **FREE).coefficients
        np.testing.assert_allclose(halved, [0.1875, -0.1875], rtol=1e-6)

    def test_coefficients_of_the_regularisers_by_hand(self):
        # w = 1/4, 3/4: c0 = -c1 = w0 w1 (beta (log w0 - log w1) + lambda (the same - log ref0 + log ref1))
        arrays = jnp.log(jnp.array([[1.0, 3.0], [5.0, 5.0], [2.0, 1.0]]))
        entropy = evaluate(*arrays, entropy_coef=0.5, kl_coef=0.0).coefficients
        np.testing.assert_allclose(entropy[0], 3 / 16 * 0.5 * np.log(1 / 3), rtol=1e-5)
        kl = evaluate(*arrays, entropy_coef=0.0, kl_coef=0.5).coefficients
        np.testing.assert_allclose(kl[0], 3 / 16 * 0.5 * np.log(1 / 6), rtol=1e-5)

    def test_check_grads(self, x64, make_batch):
        *arrays, where = make_batch((2, 6))

        @jax.jit
        def loss(scores, entropy_coef, kl_coef, temperature):
            settings = {"entropy_coef": entropy_coef, "kl_coef": kl_coef, "temperature": temperature}
            return haepo_loss(scores, *arrays[1:], where=where, **settings)[0]

        check_grads(loss, (arrays[0], 0.3, 0.2, 0.7), order=2, modes=["rev"])

    @PROPERTY
    @given(SMALL, POSITIVE, SMALL, MASK, st.sampled_from(NORMALIZATIONS))
    def test_coefficients_sum_to_zero_and_equal_the_gradient(
        self, scores, returns, reference_scores, where, normalization
    ):
        got = evaluate(scores, returns, reference_scores, where=where, normalization=normalization)
        np.testing.assert_allclose(np.asarray(got.coefficients, np.float64).sum(), 0, atol=1e-5)
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-5, atol=1e-5)

    def test_surrogate_has_the_gradient_of_the_loss(self, x64, policy, make_batch):
        rollout, batch = policy((2, 6)), make_batch((2, 6))
        options = {"where": batch.where, "temperature": 0.7, **COEFFICIENTS}

        def scores(params):
            return rollout.log_likelihoods(params, rollout.observations, rollout.actions)

        @jax.jit
        def gradients(params):
            arrays = batch.returns, batch.reference_scores
            coefficients = haepo_coefficients(scores(params), *arrays, **options)
            surrogate = jax.grad(lambda params: (coefficients * scores(params)).sum())(params)
            return surrogate, jax.grad(lambda params: haepo_loss(scores(params), *arrays, **options)[0])(params)

        surrogate, expected = gradients(rollout.params)
        np.testing.assert_allclose(surrogate, expected, rtol=1e-12)

    def test_accumulates_one_trajectory_at_a_time(self, x64, policy, make_batch):
        rollout, batch = policy((6,)), make_batch((6,))
        score_and_gradient = jax.jit(jax.value_and_grad(rollout.log_likelihoods))

        def scores(params):
            return rollout.log_likelihoods(params, rollout.observations, rollout.actions)

        @jax.jit
        @jax.grad
        def whole_gradient(params):
            return haepo_loss(scores(params), batch.returns, batch.reference_scores, **COEFFICIENTS)[0]

        pieces = [
            score_and_gradient(rollout.params, *piece)
            for piece in zip(rollout.observations, rollout.actions, strict=True)
        ]
        likelihoods = np.array([likelihood for likelihood, _ in pieces])
        coefficients = evaluate(likelihoods, batch.returns, batch.reference_scores).coefficients
        accumulated = sum(c * gradient for c, (_, gradient) in zip(coefficients, pieces, strict=True))
        np.testing.assert_allclose(accumulated, whole_gradient(rollout.params), rtol=1e-11)

    def test_coefficients_are_constants(self):
        scores, returns = jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])
        slope = jax.jit(jax.grad(lambda x: haepo_coefficients(x, returns, **FREE)[0]))(scores)
        np.testing.assert_array_equal(slope, [0, 0])

    def test_flows_through_the_scores_alone(self, make_batch):
        gradient = jax.jit(jax.grad(lambda x: haepo_loss(*x, **COEFFICIENTS)[0]))(make_batch((6,))[:3])
        assert (np.asarray(gradient[0]) != 0).all()
        np.testing.assert_array_equal(gradient[1:], np.zeros((2, 6)))

    def test_on_uniform_weights_is_that_of_reinforce(self, policy, make_batch):
        rollout, batch = policy((2, 6)), make_batch((2, 6))
        batch_arrays = rollout.observations, rollout.actions
        sampled = rollout.log_likelihoods(rollout.params, *batch_arrays)

        def haepo(params):
            likelihoods = rollout.log_likelihoods(params, *batch_arrays)
            scores = trajectory_scores(likelihoods, kind="log_ratio", behaviour_log_likelihoods=sampled)
            return haepo_loss(scores, batch.returns, entropy_coef=0.3, kl_coef=0, where=batch.where)[0]

        def reinforce(params):
            advantages = normalize_returns(batch.returns, where=batch.where)
            return reinforce_loss(rollout.log_likelihoods(params, *batch_arrays), advantages, where=batch.where)[0]

        gradient, expected = (jax.jit(jax.grad(loss))(rollout.params) for loss in (haepo, reinforce))
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(gradient).max() > 0.1

    def test_kl_coef_does_nothing_at_the_reference_and_something_away_from_it(self):
        scores, returns = jnp.array([0.0, 1.0, -0.5, 2.0]), jnp.array([1.0, 2.0, 3.0, 4.0])
        without = evaluate(scores, returns, scores, kl_coef=0.0).gradient
        at_reference = evaluate(scores, returns, scores, kl_coef=0.5).gradient
        away = evaluate(scores, returns, -scores, kl_coef=0.5).gradient
        np.testing.assert_allclose(at_reference, without, atol=1e-7)
        assert np.abs(away - without).min() > 0.01


class TestMasks:
    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("spoilt", [0, 1, 2], ids=["scores", "returns", "reference_scores"])
    def test_masked_garbage_does_not_matter(self, make_batch, normalization, garbage, spoilt):
        batch = make_batch((2, 3, 6))
        arrays = list(batch[:3])
        arrays[spoilt] = np.where(batch.where, arrays[spoilt], garbage)
        got = evaluate(*arrays, where=batch.where, normalization=normalization)
        clean = evaluate(*batch[:3], where=batch.where, normalization=normalization)
        jax.tree.map(np.testing.assert_array_equal, got, clean)
        np.testing.assert_array_equal(np.asarray(got.gradient)[~batch.where], 0)
        np.testing.assert_array_equal(np.asarray(got.coefficients)[~batch.where], 0)

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_garbage_does_not_matter_to_the_gradient_of_settings(self, make_batch, garbage):
        clean, spoilt = make_batch((6,)), make_batch((6,), garbage=garbage)
        got = gradient_of_settings(0.3, 0.2, 0.7, spoilt[:3], clean.where)
        np.testing.assert_array_equal(got, gradient_of_settings(0.3, 0.2, 0.7, clean[:3], clean.where))
        assert (np.asarray(got) != 0).all()

    @PROPERTY
    @given(SMALL, POSITIVE, SMALL, ORDER, st.sampled_from(GARBAGE), st.sampled_from(NORMALIZATIONS))
    def test_a_masked_trajectory_equals_a_dropped_one(self, scores, returns, reference, order, garbage, normalization):
        kept, masked = np.sort(order[2:]), np.array(order[:2])
        arrays = scores, returns, reference
        dropped = evaluate(*(array[kept] for array in arrays), normalization=normalization)
        for array in arrays:
            array[masked] = garbage
        got = evaluate(*arrays, where=np.isin(np.arange(6), kept), normalization=normalization)
        np.testing.assert_array_equal([got.gradient[masked], got.coefficients[masked]], np.zeros((2, 2)))
        remaining = jax.tree.map(lambda value: value[kept] if value.ndim else value, got)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), remaining, dropped)

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_an_all_masked_group_contributes_nothing(self, make_batch, normalization, garbage):
        batch = make_batch((2, 3, 6))
        for array in batch[:3]:
            array[0, 1] = garbage
        batch.where[0, 1] = False
        got = evaluate(*batch[:3], where=batch.where, normalization=normalization)
        others = [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
        alone = [
            evaluate(*(array[group] for array in batch[:3]), where=batch.where[group], normalization=normalization)
            for group in others
        ]
        np.testing.assert_allclose(got.loss, np.mean([result.loss for result in alone]), rtol=1e-5)
        for result, group in zip(alone, others, strict=True):
            np.testing.assert_allclose(got.gradient[group], result.gradient / 5, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(got.coefficients[group], result.coefficients / 5, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal([got.gradient[0, 1], got.coefficients[0, 1]], np.zeros((2, 6)))
        assert got.metrics.num_valid[0, 1] == got.metrics.effective_sample_size[0, 1] == 0

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, normalization, garbage, shape):
        x = jnp.full(shape, garbage, jnp.float32)
        got = evaluate(x, x, x, where=jnp.zeros(shape, bool), normalization=normalization)
        assert (np.asarray(got.metrics.log_weights) == -np.inf).all()
        rest = got._replace(metrics=got.metrics._replace(log_weights=0))
        assert all((np.asarray(value) == 0).all() for value in jax.tree.leaves(rest))

    def test_a_score_of_minus_infinity_has_no_weight_and_no_gradient(self):
        got = evaluate(jnp.array([0.0, -jnp.inf, 1.0, 2.0]), jnp.array([1.0, 2.0, 3.0, 1.0]), jnp.zeros(4))
        assert got.metrics.log_weights[1] == -np.inf
        assert np.isfinite(got.loss) and np.isfinite(got.gradient).all()
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-5, atol=1e-7)
        assert got.gradient[1] == got.coefficients[1] == 0

    def test_a_score_of_minus_infinity_leaves_the_gradient_of_settings_finite(self, make_batch):
        batch = make_batch((6,))
        batch.scores[2] = -np.inf
        gradients = gradient_of_settings(0.3, 0.2, 0.7, batch[:3], np.ones(6, bool))
        assert np.isfinite(gradients).all()


class TestDtypes:
    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    @pytest.mark.parametrize("returns_dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, dtype, returns_dtype):
        scores, returns = jnp.ones(4, dtype), jnp.ones(4, returns_dtype)
        self.check(scores, returns, scores, expected=jnp.float32)

    @pytest.mark.parametrize("wide", [0, 1, 2], ids=["scores", "returns", "reference_scores"])
    def test_float64_stays_float64(self, x64, wide):
        arrays = [jnp.ones(4, jnp.float32)] * 3
        arrays[wide] = arrays[wide].astype(jnp.float64)
        self.check(*arrays, expected=jnp.float64)

    def test_float32_stays_float32_when_float64_is_enabled(self, x64):
        x = jnp.ones(4, jnp.float32)
        self.check(x, x.astype(int), x, temperature=np.float64(2), expected=jnp.float32)

    def check(self, *arrays, expected, **settings):
        result = jax.eval_shape(evaluate, *arrays, **settings)
        metrics = result.metrics
        assert metrics.num_valid.dtype == jnp.int32
        assert metrics.returns_sum_not_positive.dtype == jnp.bool_
        floats = metrics._replace(num_valid=result.loss, returns_sum_not_positive=result.coefficients)
        assert {value.dtype for value in floats} == {jnp.dtype(expected)}
        assert result.gradient.dtype == arrays[0].dtype

    def test_half_precision_is_computed_in_float32(self):
        scores, returns = jnp.array([0.5, -1, 2, -3], jnp.bfloat16), jnp.array([1, 2, 4, 8], jnp.int32)
        got = evaluate(scores, returns, scores)
        expected = evaluate(*(x.astype(jnp.float32) for x in (scores, returns, scores)))
        np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-6)
        np.testing.assert_allclose(got.coefficients, expected.coefficients, rtol=1e-6)

    def test_lists_of_numbers_are_accepted(self):
        loss, _ = haepo_loss([0.0, 0.0], [1, 3], normalization="none", where=[True, True], **FREE)
        assert loss == -2


class TestSumNormalization:
    BAD_AND_GOOD = ((1.0, -2.0), (1.0, 3.0))

    @pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
    @pytest.mark.parametrize("returns", [[1.0, -2.0], [1.0, -1.0], BAD_AND_GOOD])
    def test_refuses_concrete_returns_whose_sum_is_not_positive(self, function, returns):
        returns = jnp.array(returns)
        with pytest.raises(ValueError, match="positive sum"):
            function(returns, returns, normalization="sum", **FREE)

    def test_refuses_concrete_returns_under_grad_as_well(self):
        returns = jnp.array([1.0, -2.0])
        with pytest.raises(ValueError, match="positive sum"):
            jax.grad(lambda scores: haepo_loss(scores, returns, normalization="sum", **FREE)[0])(jnp.zeros(2))

    def test_drops_and_flags_the_policy_term_of_a_traced_group_it_cannot_rank(self):
        scores, returns = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0]])), jnp.array(self.BAD_AND_GOOD)
        got = evaluate(scores, returns, scores, normalization="sum")
        np.testing.assert_array_equal(got.metrics.returns_sum_not_positive, [True, False])
        np.testing.assert_array_equal(got.metrics.normalized_returns, [[0, 0], [0.25, 0.75]])
        np.testing.assert_allclose(got.metrics.policy_loss, [0, -0.625], rtol=1e-6)
        np.testing.assert_allclose(got.loss, (-0.625 - 0.3 * got.metrics.entropy.sum()) / 2, rtol=1e-6)
        # c0 = -c1 = w0 w1 (-R0 + R1 + beta log(w0 / w1)) / 2 groups
        slope = 3 / 16 * (np.array([0, 0.5]) + 0.3 * np.log(1 / 3)) / 2
        np.testing.assert_allclose(got.coefficients, np.stack([slope, -slope], -1), rtol=1e-5)
        np.testing.assert_allclose(got.gradient, got.coefficients, rtol=1e-5)

    @pytest.mark.parametrize("normalization", ["zscore", "none"])
    def test_other_normalisations_flag_nothing(self, normalization):
        returns = jnp.array([1.0, -2.0])
        assert not evaluate(returns, returns, returns, normalization=normalization).metrics.returns_sum_not_positive


@pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
class TestErrors:
    def test_kl_coef_without_a_reference_is_refused(self, function):
        with pytest.raises(ValueError, match=r"kl_coef 0.1 needs reference_scores; give them, or set kl_coef"):
            function(jnp.zeros(3), jnp.zeros(3), entropy_coef=0, kl_coef=0.1)

    def test_a_traced_kl_coef_without_a_reference_is_refused(self, function):
        with pytest.raises(ValueError, match="needs reference_scores"):
            jax.jit(lambda kl_coef: function(jnp.zeros(3), jnp.zeros(3), entropy_coef=0, kl_coef=kl_coef))(0.0)

    @pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), np.zeros(()), jnp.float32(0), jnp.int32(0)])
    def test_kl_coef_of_zero_needs_no_reference(self, function, zero):
        call = partial(function, entropy_coef=0, kl_coef=zero)
        assert np.isfinite(first(call(jnp.zeros(2), jnp.array([1.0, 2.0])))).all()
        jax.eval_shape(call, jnp.zeros(2), jnp.zeros(2))  # nor does it under a transformation

    def test_kl_coef_of_zero_ignores_even_an_infinite_divergence(self, function):
        arrays = jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([0.0, -jnp.inf])
        assert np.isfinite(first(function(*arrays, entropy_coef=0, kl_coef=0))).all()

    @pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), jnp.float32(0)])
    def test_a_temperature_that_is_not_positive_is_refused(self, function, temperature):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            function(jnp.zeros(3), jnp.zeros(3), temperature=temperature, **FREE)

    @pytest.mark.parametrize("name", ["entropy_coef", "kl_coef", "temperature"])
    @pytest.mark.parametrize("shape", [(1,), (2,), (3,)])
    def test_settings_that_would_broadcast_are_refused(self, function, name, shape):
        x = jnp.zeros((2, 3))
        with pytest.raises((ValueError, AssertionError), match=name):
            function(x, x, x, **(COEFFICIENTS | {name: jnp.ones(shape)}))

    def test_an_unknown_normalisation_is_refused(self, function):
        with pytest.raises(ValueError, match="must be one of zscore, sum, none, got 'rank'"):
            function(jnp.zeros(3), jnp.zeros(3), normalization="rank", **FREE)

    def test_scalars_are_refused(self, function):
        with pytest.raises(ValueError, match="scores must have at least one axis"):
            function(jnp.float32(0), jnp.float32(0), **FREE)

    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
    def test_a_mask_that_is_not_boolean_is_refused(self, function, dtype):
        with pytest.raises(TypeError, match="where must be boolean"):
            function(jnp.zeros(3), jnp.zeros(3), where=jnp.ones(3, dtype), **FREE)

    @pytest.mark.parametrize("name", ["scores", "returns", "reference_scores", "where"])
    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
    def test_shapes_that_would_broadcast_are_refused(self, function, name, shape):
        arrays = dict.fromkeys(["scores", "returns", "reference_scores"], jnp.zeros((2, 3)))
        arrays |= {"where": jnp.ones((2, 3), bool)}
        arrays[name] = jnp.ones(shape, arrays[name].dtype)
        with pytest.raises(AssertionError) as error:
            function(**arrays, **COEFFICIENTS)
        assert "(2, 3)" in str(error.value) and f"{name} {shape}" in str(error.value)


def first(result):
    """The loss of `(loss, metrics)`; coefficients as they are."""
    return result[0] if isinstance(result, tuple) else result

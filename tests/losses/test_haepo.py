"""`haepo_loss` and `haepo_coefficients`: values, gradients, masks, dtypes, errors."""

from functools import partial

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
SHAPES = [(6,), (3, 6), (2, 3, 6)]
COEFFICIENTS = {"entropy_coef": 0.3, "kl_coef": 0.2}
FREE = {"entropy_coef": 0.0, "kl_coef": 0.0}

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
LARGE = arrays(np.float32, 6, elements=st.floats(-1e5, 1e5, width=32))
SMALL = arrays(np.float32, 6, elements=st.floats(-20, 20, width=32))
EIGHTHS = st.integers(-8000, 8000).map(lambda n: n / 8)  # sums of these are exact in float32
EXACT = arrays(np.float32, 6, elements=EIGHTHS)


def gradient_of(scores, returns, reference_scores=None, **options):
    return jax.grad(lambda x: haepo_loss(x, returns, reference_scores, **options)[0])(scores)


@partial(jax.jit, static_argnames="normalization")
def loss_and_coefficients(*arrays, **options):
    options = COEFFICIENTS | options
    loss, metrics = haepo_loss(*arrays, **options)
    return loss, metrics, haepo_coefficients(*arrays, **options)


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
        loss, metrics = haepo_loss(jnp.log(jnp.array([1.0, 3.0])), returns, normalization=normalization, **FREE)
        np.testing.assert_allclose([loss, metrics.policy_loss], [expected] * 2, rtol=1e-6)

    def test_regularisers_by_hand(self):
        # equal returns drop out; H = log(4)/4 + 3/4 log(4/3); the reference is uniform, so KL = log(2) - H
        scores, equal = jnp.log(jnp.array([1.0, 3.0])), jnp.array([7.0, 7.0])
        entropy = np.log(4) / 4 + 0.75 * np.log(4 / 3)
        loss, metrics = haepo_loss(scores, equal, jnp.array([-9.0, -9.0]), entropy_coef=0.3, kl_coef=0.2)
        np.testing.assert_allclose(metrics.entropy, entropy, rtol=1e-6)
        np.testing.assert_allclose(metrics.kl, np.log(2) - entropy, rtol=1e-5)
        np.testing.assert_allclose(loss, -0.3 * entropy + 0.2 * (np.log(2) - entropy), rtol=1e-5)

    def test_metrics_by_hand(self):
        _, metrics = haepo_loss(jnp.log(jnp.array([1.0, 3.0])), jnp.array([4.0, 6.0]), **FREE)
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
        options = {"entropy_coef": 0.3, "kl_coef": 0.2 if with_reference else 0, "temperature": temperature}
        where = np.ones(shape, bool) if garbage is None else batch.where
        loss, metrics = haepo_loss(
            *arrays, normalization=normalization, where=None if garbage is None else where, **options
        )
        expected = reference.haepo(*arrays, normalization=normalization, where=where, **options)
        assert loss.shape == ()
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-5, atol=1e-6)
        for name in HaepoMetrics._fields:
            got, wanted = getattr(metrics, name), getattr(expected, name)
            assert got.shape == wanted.shape, name
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-6, err_msg=name)

    def test_is_the_mean_over_groups(self, make_batch):
        batch = make_batch((3, 6))
        whole, _ = haepo_loss(batch.scores, batch.returns, entropy_coef=0.3, kl_coef=0)
        parts = [haepo_loss(s, r, entropy_coef=0.3, kl_coef=0)[0] for s, r in zip(*batch[:2], strict=True)]
        np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-6)

    def test_the_default_is_zscore_at_temperature_one(self, make_batch):
        batch = make_batch((6,))
        explicit, _ = haepo_loss(batch.scores, batch.returns, temperature=1.0, normalization="zscore", **FREE)
        assert haepo_loss(batch.scores, batch.returns, **FREE)[0] == explicit

    @PROPERTY
    @given(EXACT, EXACT, EXACT, EIGHTHS, EIGHTHS)
    def test_a_constant_added_to_all_scores_changes_nothing(self, scores, returns, reference_scores, one, other):
        before = loss_and_coefficients(scores, returns, reference_scores)
        after = loss_and_coefficients(scores + np.float32(one), returns, reference_scores + np.float32(other))
        jax.tree.map(np.testing.assert_array_equal, after, before)

    @PROPERTY
    @given(SMALL, SMALL, SMALL, st.permutations(range(6)), st.sampled_from(NORMALIZATIONS))
    def test_permuting_trajectories_permutes_the_result(self, scores, returns, reference_scores, order, normalization):
        order, returns = np.array(order), np.abs(returns) + 1
        loss, metrics, coefficients = loss_and_coefficients(
            scores, returns, reference_scores, normalization=normalization
        )
        got = loss_and_coefficients(
            scores[order], returns[order], reference_scores[order], normalization=normalization
        )
        close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
        close(got[0], loss)
        close(got[1].log_weights, metrics.log_weights[order])
        close(got[1].normalized_returns, metrics.normalized_returns[order])
        close(got[2], coefficients[order])

    @PROPERTY
    @given(LARGE, EXACT, LARGE, arrays(bool, 6), st.sampled_from(NORMALIZATIONS))
    def test_finite_input_gives_finite_output(self, scores, returns, reference_scores, where, normalization):
        loss, metrics, coefficients = loss_and_coefficients(
            scores, returns, reference_scores, where=where, normalization=normalization
        )
        assert np.isfinite(loss)
        assert np.isfinite(coefficients).all()
        np.testing.assert_array_equal(np.isfinite(metrics.log_weights), where)
        assert all(np.isfinite(value).all() for value in metrics._replace(log_weights=0))

    def test_a_single_trajectory_has_nothing_to_compete_with(self, normalization):
        one = jnp.array([2.0])
        loss, metrics = haepo_loss(-one, one, one, normalization=normalization, **COEFFICIENTS)
        assert loss == {"zscore": 0, "sum": -1, "none": -2}[normalization]
        assert metrics.effective_sample_size == metrics.max_weight == 1
        np.testing.assert_array_equal(gradient_of(-one, one, one, normalization=normalization, **COEFFICIENTS), [0])

    def test_long_trajectories_do_not_overflow(self, reference):
        batch = np.array([[1e5, -1e5, 0], [1, 2, 3], [-1e5, 1e5, 0]], np.float32)
        options = {"temperature": 1.0, "normalization": "zscore", "where": np.ones(3, bool), **COEFFICIENTS}
        loss, _ = haepo_loss(*batch, **options)
        np.testing.assert_allclose(loss, reference.haepo(*batch, **options).loss, rtol=1e-6)
        assert np.isfinite(gradient_of(*batch, **options)).all()


class TestEffect:
    """What minimising each term alone does to the weights of four trajectories."""

    SCORES = (2.0, 0.0, -1.0, 1.0)
    EQUAL = (1.0, 1.0, 1.0, 1.0)

    def descend(self, returns, reference_scores=None, steps=30, **coefficients):
        @jax.jit
        def step(scores):
            def loss(scores):
                return haepo_loss(scores, returns, reference_scores, **coefficients)

            gradient, metrics = jax.grad(loss, has_aux=True)(scores)
            return scores - gradient, metrics

        scores, history = jnp.array(self.SCORES), []
        for _ in range(steps):
            scores, metrics = step(scores)
            history.append(metrics)
        return jax.tree.map(lambda *values: np.stack(values), *history)

    def test_entropy_coef_spreads_the_weights(self):
        history = self.descend(jnp.array(self.EQUAL), entropy_coef=1.0, kl_coef=0)
        assert (np.diff(history.entropy) > 0).all()
        assert history.entropy[0] < 1 and history.entropy[-1] > 0.99 * np.log(4)

    def test_kl_coef_draws_the_weights_to_the_reference(self):
        reference_scores = jnp.array([0.0, 1.0, 0.5, -0.5])
        history = self.descend(jnp.array(self.EQUAL), reference_scores, entropy_coef=0, kl_coef=1.0)
        assert (np.diff(history.kl) < 0).all()
        assert history.kl[0] > 0.5 and history.kl[-1] < 0.01

    def test_the_weighted_return_rises(self, normalization):
        history = self.descend(jnp.array([1.0, 2.0, 4.0, 3.0]), normalization=normalization, **FREE)
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
        options = {
            "entropy_coef": 0.3,
            "kl_coef": 0.2 if with_reference else 0,
            "temperature": temperature,
            "normalization": normalization,
            "where": where,
        }
        coefficients = haepo_coefficients(*arrays, **options)
        np.testing.assert_allclose(coefficients, gradient_of(*arrays, **options), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(coefficients, reference.coefficients(*arrays, **options), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(coefficients.sum(-1), np.zeros(shape[:-1]), atol=1e-6)
        np.testing.assert_array_equal(np.asarray(coefficients)[~where], 0)

    def test_is_the_coefficients_in_double_precision(self, x64, reference, make_batch, normalization, with_reference):
        batch = make_batch((3, 6), garbage=np.nan)
        arrays = batch.scores, batch.returns, batch.reference_scores if with_reference else None
        options = {
            "entropy_coef": 0.3,
            "kl_coef": 0.2 if with_reference else 0,
            "temperature": 0.7,
            "normalization": normalization,
            "where": batch.where,
        }
        coefficients = haepo_coefficients(*arrays, **options)
        assert coefficients.dtype == jnp.float64
        np.testing.assert_allclose(coefficients, gradient_of(*arrays, **options), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(coefficients, reference.coefficients(*arrays, **options), rtol=1e-12, atol=1e-15)

    def test_coefficients_by_hand(self):
        # w = 1/4, 3/4; f = 1, -1; sum w f = -1/2; c = (1/4)(3/2), (3/4)(-1/2)
        scores, returns = jnp.log(jnp.array([1.0, 3.0])), jnp.array([4.0, 6.0])
        np.testing.assert_allclose(haepo_coefficients(scores, returns, **FREE), [0.375, -0.375], rtol=1e-6)
        halved = haepo_coefficients(2 * scores, returns, temperature=2.0, **FREE)
        np.testing.assert_allclose(halved, [0.1875, -0.1875], rtol=1e-6)

    def test_coefficients_of_the_regularisers_by_hand(self):
        # w = 1/4, 3/4: c0 = -c1 = w0 w1 (beta (log w0 - log w1) + lambda (the same - log ref0 + log ref1))
        scores, equal, reference_scores = jnp.log(jnp.array([[1.0, 3.0], [5.0, 5.0], [2.0, 1.0]]))
        entropy = haepo_coefficients(scores, equal, reference_scores, entropy_coef=0.5, kl_coef=0)
        np.testing.assert_allclose(entropy[0], 3 / 16 * 0.5 * np.log(1 / 3), rtol=1e-5)
        kl = haepo_coefficients(scores, equal, reference_scores, entropy_coef=0, kl_coef=0.5)
        np.testing.assert_allclose(kl[0], 3 / 16 * 0.5 * np.log(1 / 6), rtol=1e-5)

    def test_check_grads(self, x64, make_batch, normalization, with_reference):
        batch = make_batch((2, 6))
        reference_scores = batch.reference_scores if with_reference else None

        @jax.jit
        def loss(scores, entropy_coef, temperature):
            return haepo_loss(
                scores,
                batch.returns,
                reference_scores,
                entropy_coef=entropy_coef,
                kl_coef=0.2 if with_reference else 0,
                temperature=temperature,
                normalization=normalization,
                where=batch.where,
            )[0]

        check_grads(loss, (batch.scores, 0.3, 0.7), order=2 if with_reference and normalization == "zscore" else 1)

    @PROPERTY
    @given(SMALL, SMALL, SMALL, arrays(bool, 6), st.sampled_from(NORMALIZATIONS))
    def test_coefficients_sum_to_zero(self, scores, returns, reference_scores, where, normalization):
        returns = np.abs(returns) + 1
        *_, coefficients = loss_and_coefficients(
            scores, returns, reference_scores, where=where, normalization=normalization
        )
        np.testing.assert_allclose(np.asarray(coefficients, np.float64).sum(), 0, atol=1e-5)

    def test_surrogate_has_the_gradient_of_the_loss(self, x64, policy, make_batch):
        rollout, batch = policy((2, 6)), make_batch((2, 6))
        options = {"where": batch.where, "temperature": 0.7, **COEFFICIENTS}

        def scores(params):
            return rollout.log_likelihoods(params, rollout.observations, rollout.actions)

        def loss(params):
            return haepo_loss(scores(params), batch.returns, batch.reference_scores, **options)[0]

        coefficients = haepo_coefficients(scores(rollout.params), batch.returns, batch.reference_scores, **options)
        surrogate = jax.grad(lambda params: (coefficients * scores(params)).sum())(rollout.params)
        np.testing.assert_allclose(surrogate, jax.grad(loss)(rollout.params), rtol=1e-12)

    def test_accumulates_one_trajectory_at_a_time(self, x64, policy, make_batch):
        rollout, batch = policy((6,)), make_batch((6,))

        @jax.jit
        def score_and_gradient(params, observations, actions):
            return jax.value_and_grad(rollout.log_likelihoods)(params, observations, actions)

        def loss(params):
            scores = rollout.log_likelihoods(params, rollout.observations, rollout.actions)
            return haepo_loss(scores, batch.returns, entropy_coef=0.3, kl_coef=0)[0]

        pieces = [
            score_and_gradient(rollout.params, *piece)
            for piece in zip(rollout.observations, rollout.actions, strict=True)
        ]
        scores, gradients = map(jnp.stack, zip(*pieces, strict=True))
        coefficients = haepo_coefficients(scores, batch.returns, entropy_coef=0.3, kl_coef=0)
        accumulated = jnp.tensordot(coefficients, gradients, 1)
        np.testing.assert_allclose(accumulated, jax.grad(loss)(rollout.params), rtol=1e-11)

    def test_coefficients_are_constants(self):
        scores, returns = jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])
        slope = jax.grad(lambda x: haepo_coefficients(x, returns, **FREE)[0])(scores)
        np.testing.assert_array_equal(slope, [0, 0])

    @pytest.mark.parametrize("argument", [1, 2], ids=["returns", "reference_scores"])
    def test_flows_through_the_scores_alone(self, make_batch, argument):
        arrays = [jnp.asarray(array) for array in make_batch((6,))[:3]]
        gradient = jax.grad(lambda *x: haepo_loss(*x, **COEFFICIENTS)[0], argument)(*arrays)
        np.testing.assert_array_equal(gradient, np.zeros(6))

    def test_on_uniform_weights_is_that_of_reinforce(self, policy, make_batch):
        rollout, batch = policy((3, 6)), make_batch((3, 6))
        sampled = rollout.log_likelihoods(rollout.params, rollout.observations, rollout.actions)

        def haepo(params):
            likelihoods = rollout.log_likelihoods(params, rollout.observations, rollout.actions)
            scores = trajectory_scores(likelihoods, kind="log_ratio", behaviour_log_likelihoods=sampled)
            return haepo_loss(scores, batch.returns, entropy_coef=0.3, kl_coef=0, where=batch.where)[0]

        def reinforce(params):
            likelihoods = rollout.log_likelihoods(params, rollout.observations, rollout.actions)
            advantages = normalize_returns(batch.returns, where=batch.where)
            return reinforce_loss(likelihoods, advantages, where=batch.where)[0]

        gradient = jax.grad(haepo)(rollout.params)
        np.testing.assert_allclose(gradient, jax.grad(reinforce)(rollout.params), rtol=1e-4, atol=1e-6)
        assert np.abs(gradient).max() > 0.1

    def test_kl_coef_does_nothing_at_the_reference_and_something_away_from_it(self):
        scores, returns = jnp.array([0.0, 1.0, -0.5, 2.0]), jnp.array([1.0, 2.0, 3.0, 4.0])
        without = gradient_of(scores, returns, scores, entropy_coef=0.1, kl_coef=0)
        at_reference = gradient_of(scores, returns, scores, entropy_coef=0.1, kl_coef=0.5)
        away = gradient_of(scores, returns, -scores, entropy_coef=0.1, kl_coef=0.5)
        np.testing.assert_allclose(at_reference, without, atol=1e-7)
        assert np.abs(away - without).min() > 0.01


class TestMasks:
    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("spoilt", [0, 1, 2], ids=["scores", "returns", "reference_scores"])
    def test_masked_garbage_does_not_matter(self, make_batch, normalization, garbage, spoilt):
        clean = make_batch((3, 6))
        arrays = list(clean[:3])
        arrays[spoilt] = np.where(clean.where, arrays[spoilt], garbage)
        options = {"where": clean.where, "normalization": normalization, **COEFFICIENTS}
        assert haepo_loss(*arrays, **options)[0] == haepo_loss(*clean[:3], **options)[0]
        gradient = np.asarray(gradient_of(*arrays, **options))
        np.testing.assert_array_equal(gradient, gradient_of(*clean[:3], **options))
        np.testing.assert_array_equal(gradient[~clean.where], 0)
        coefficients = haepo_coefficients(*arrays, **options)
        np.testing.assert_array_equal(coefficients, haepo_coefficients(*clean[:3], **options))

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_garbage_does_not_matter_to_the_gradient_of_settings(self, garbage):
        def loss(entropy_coef, kl_coef, temperature, filling):
            batch = jnp.where(where, jnp.array([[0.0, 0, 1], [1, 0, 2], [3, 0, 1]]), filling)
            settings = {"entropy_coef": entropy_coef, "kl_coef": kl_coef, "temperature": temperature}
            return haepo_loss(*batch, where=where[0], **settings)[0]

        where = jnp.array([[True, False, True]] * 3)
        gradients = [jax.grad(loss, (0, 1, 2))(0.3, 0.2, 0.7, filling) for filling in (garbage, 0.0)]
        np.testing.assert_array_equal(*gradients)

    @PROPERTY
    @given(SMALL, SMALL, SMALL, st.permutations(range(6)), st.sampled_from(GARBAGE), st.sampled_from(NORMALIZATIONS))
    def test_a_masked_trajectory_equals_a_dropped_one(self, scores, returns, reference, order, garbage, normalization):
        kept, masked = np.sort(order[2:]), np.array(order[:2])
        arrays = scores, np.abs(returns) + 1, reference
        loss, _, coefficients = loss_and_coefficients(*(x[kept] for x in arrays), normalization=normalization)
        for array in arrays:
            array[masked] = garbage
        where = ~np.isin(np.arange(6), masked)
        got = loss_and_coefficients(*arrays, where=where, normalization=normalization)
        np.testing.assert_allclose(got[0], loss, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got[2][kept], coefficients, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(got[2][masked], [0, 0])
        assert got[1].num_valid == 4

    def test_gradient_of_a_masked_trajectory_equals_that_of_a_dropped_one(self, make_batch, normalization):
        batch = make_batch((6,), garbage=np.nan)
        options = {"normalization": normalization, **COEFFICIENTS}
        masked = np.asarray(gradient_of(*batch[:3], where=batch.where, **options))
        dropped = gradient_of(*(array[batch.where] for array in batch[:3]), **options)
        np.testing.assert_allclose(masked[batch.where], dropped, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_an_all_masked_group_contributes_nothing(self, make_batch, normalization, garbage):
        batch = make_batch((3, 6))
        options = {"normalization": normalization, **COEFFICIENTS}
        full = [array.copy() for array in batch]
        for array in full[:3]:
            array[1] = garbage
        full[3][1] = False
        got, metrics = haepo_loss(*full[:3], where=full[3], **options)
        others = [array[[0, 2]] for array in batch]
        np.testing.assert_allclose(got, haepo_loss(*others[:3], where=others[3], **options)[0], rtol=1e-6)
        gradient = gradient_of(*full[:3], where=full[3], **options)
        expected = gradient_of(*others[:3], where=others[3], **options)
        np.testing.assert_allclose(gradient[jnp.array([0, 2])], expected, rtol=1e-6)
        np.testing.assert_array_equal(gradient[1], np.zeros(6))
        assert metrics.num_valid[1] == metrics.effective_sample_size[1] == metrics.max_weight[1] == 0

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    @pytest.mark.parametrize("shape", [(4,), (2, 3)])
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, normalization, garbage, shape):
        x, where = jnp.full(shape, garbage), jnp.zeros(shape, bool)
        options = {"where": where, "normalization": normalization, **COEFFICIENTS}
        loss, metrics = haepo_loss(x, x, x, **options)
        assert loss == 0
        np.testing.assert_array_equal(gradient_of(x, x, x, **options), np.zeros(shape))
        np.testing.assert_array_equal(haepo_coefficients(x, x, x, **options), np.zeros(shape))
        assert (np.asarray(metrics.log_weights) == -np.inf).all()
        assert all((np.asarray(value) == 0).all() for value in metrics._replace(log_weights=0))

    def test_a_score_of_minus_infinity_has_no_weight_and_no_gradient(self):
        scores, returns = jnp.array([0.0, -jnp.inf, 1.0]), jnp.array([1.0, 2.0, 3.0])
        loss, metrics = haepo_loss(scores, returns, entropy_coef=0.3, kl_coef=0)
        gradient = gradient_of(scores, returns, entropy_coef=0.3, kl_coef=0)
        assert np.isfinite(loss) and metrics.log_weights[1] == -np.inf
        assert np.isfinite(gradient).all() and gradient[1] == 0
        coefficients = haepo_coefficients(scores, returns, entropy_coef=0.3, kl_coef=0)
        np.testing.assert_allclose(coefficients, gradient, rtol=1e-5, atol=1e-7)


class TestDtypes:
    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    @pytest.mark.parametrize("returns_dtype", [jnp.bfloat16, jnp.int32, jnp.float32])
    def test_narrow_input_gives_float32(self, dtype, returns_dtype):
        scores, returns = jnp.array([0, 1, 2], dtype), jnp.array([1, 2, 4], returns_dtype)
        loss, metrics = haepo_loss(scores, returns, scores, **COEFFICIENTS)
        assert loss.dtype == haepo_coefficients(scores, returns, scores, **COEFFICIENTS).dtype == jnp.float32
        self.check_metrics(metrics, jnp.float32)

    @pytest.mark.parametrize("wide", [0, 1, 2], ids=["scores", "returns", "reference_scores"])
    def test_float64_stays_float64(self, x64, wide):
        arrays = [jnp.arange(1, 4, dtype=jnp.float32)] * 3
        arrays[wide] = arrays[wide].astype(jnp.float64)
        loss, metrics = haepo_loss(*arrays, **COEFFICIENTS)
        assert loss.dtype == haepo_coefficients(*arrays, **COEFFICIENTS).dtype == jnp.float64
        self.check_metrics(metrics, jnp.float64)

    def test_float32_stays_float32_when_float64_is_enabled(self, x64):
        x = jnp.arange(1, 4, dtype=jnp.float32)
        loss, metrics = haepo_loss(x, x.astype(int), x, temperature=np.float64(2), **COEFFICIENTS)
        assert loss.dtype == jnp.float32
        self.check_metrics(metrics, jnp.float32)

    def check_metrics(self, metrics, dtype):
        assert metrics.num_valid.dtype == jnp.int32
        assert metrics.returns_sum_not_positive.dtype == jnp.bool_
        floats = metrics._replace(num_valid=metrics.kl, returns_sum_not_positive=metrics.kl)
        assert {value.dtype for value in floats} == {jnp.dtype(dtype)}

    def test_double_precision_matches_the_reference(self, x64, reference, make_batch, normalization):
        batch = make_batch((3, 6), garbage=np.nan)
        options = {"temperature": 0.7, "normalization": normalization, "where": batch.where, **COEFFICIENTS}
        loss, metrics = haepo_loss(*batch[:3], **options)
        expected = reference.haepo(*batch[:3], **options)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-13)
        for name in HaepoMetrics._fields:
            np.testing.assert_allclose(getattr(metrics, name), getattr(expected, name), rtol=1e-12, err_msg=name)

    def test_gradient_has_the_dtype_of_the_scores(self):
        scores, returns = jnp.array([0, 1, 2], jnp.bfloat16), jnp.array([1, 2, 4])
        assert gradient_of(scores, returns, **FREE).dtype == jnp.bfloat16

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
        with pytest.raises(ValueError, match="positive sum"):
            gradient_of(jnp.zeros(2), jnp.array([1.0, -2.0]), normalization="sum", **FREE)

    def test_drops_and_flags_the_policy_term_of_a_traced_group_it_cannot_rank(self):
        scores, returns = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0]])), jnp.array(self.BAD_AND_GOOD)
        loss, metrics, coefficients = loss_and_coefficients(scores, returns, scores, normalization="sum")
        np.testing.assert_array_equal(metrics.returns_sum_not_positive, [True, False])
        np.testing.assert_array_equal(metrics.normalized_returns, [[0, 0], [0.25, 0.75]])
        np.testing.assert_allclose(metrics.policy_loss, [0, -0.625], rtol=1e-6)
        np.testing.assert_allclose(loss, (-0.625 - 0.3 * metrics.entropy.sum()) / 2, rtol=1e-6)
        # c0 = -c1 = w0 w1 (-R0 + R1 + beta log(w0 / w1)) / 2 groups
        slope = 3 / 16 * (np.array([0, 0.5]) + 0.3 * np.log(1 / 3)) / 2
        np.testing.assert_allclose(coefficients, np.stack([slope, -slope], -1), rtol=1e-5)

    @pytest.mark.parametrize("normalization", ["zscore", "none"])
    def test_other_normalisations_flag_nothing(self, normalization):
        returns = jnp.array(self.BAD_AND_GOOD)
        _, metrics = haepo_loss(returns, returns, normalization=normalization, **FREE)
        np.testing.assert_array_equal(metrics.returns_sum_not_positive, [False, False])


@pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
class TestErrors:
    def test_kl_coef_without_a_reference(self, function):
        with pytest.raises(ValueError, match=r"kl_coef 0.1 needs reference_scores; give them, or set kl_coef"):
            function(jnp.zeros(3), jnp.zeros(3), entropy_coef=0, kl_coef=0.1)

    def test_traced_kl_coef_without_a_reference(self, function):
        with pytest.raises(ValueError, match="needs reference_scores"):
            jax.jit(lambda kl_coef: function(jnp.zeros(3), jnp.zeros(3), entropy_coef=0, kl_coef=kl_coef))(0.0)

    @pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), np.zeros(()), jnp.float32(0), jnp.int32(0)])
    def test_kl_coef_of_zero_needs_no_reference(self, function, zero):
        def call(scores):
            result = function(scores, jnp.array([1.0, 2.0]), entropy_coef=0, kl_coef=zero)
            return result if function is haepo_coefficients else result[0]

        np.testing.assert_allclose(jax.jit(call)(jnp.zeros(2)), call(jnp.zeros(2)), atol=1e-7)

    def test_kl_coef_of_zero_ignores_even_an_infinite_divergence(self, function):
        result = function(jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([0.0, -jnp.inf]), entropy_coef=0, kl_coef=0)
        assert np.isfinite(result if function is haepo_coefficients else result[0]).all()

    @pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), jnp.float32(0)])
    def test_temperature_that_is_not_positive(self, function, temperature):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            function(jnp.zeros(3), jnp.zeros(3), temperature=temperature, **FREE)

    @pytest.mark.parametrize("name", ["entropy_coef", "kl_coef", "temperature"])
    @pytest.mark.parametrize("shape", [(1,), (2,), (3,)])
    def test_settings_that_would_broadcast(self, function, name, shape):
        x = jnp.zeros((2, 3))
        with pytest.raises((ValueError, AssertionError), match=name):
            function(x, x, x, **(COEFFICIENTS | {name: jnp.ones(shape)}))

    def test_unknown_normalisation(self, function):
        with pytest.raises(ValueError, match="must be one of zscore, sum, none, got 'rank'"):
            function(jnp.zeros(3), jnp.zeros(3), normalization="rank", **FREE)

    def test_scalars(self, function):
        with pytest.raises(ValueError, match="scores must have at least one axis"):
            function(jnp.float32(0), jnp.float32(0), **FREE)

    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
    def test_mask_that_is_not_boolean(self, function, dtype):
        with pytest.raises(TypeError, match="where must be boolean"):
            function(jnp.zeros(3), jnp.zeros(3), where=jnp.ones(3, dtype), **FREE)

    @pytest.mark.parametrize("name", ["scores", "returns", "reference_scores", "where"])
    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
    def test_shapes_that_would_broadcast(self, function, name, shape):
        arrays = dict.fromkeys(["scores", "returns", "reference_scores"], jnp.zeros((2, 3)))
        arrays |= {"where": jnp.ones((2, 3), bool)}
        arrays[name] = jnp.ones(shape, arrays[name].dtype)
        with pytest.raises(AssertionError) as error:
            function(**arrays, **COEFFICIENTS)
        assert "(2, 3)" in str(error.value) and f"{name} {shape}" in str(error.value)

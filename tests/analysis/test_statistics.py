import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from haepo_jax.analysis.statistics import (
    Estimate,
    difference_interval,
    interquartile_mean,
    interquartile_mean_band,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    variance,
    variance_interval,
    variance_ratio,
)

INF = np.inf
REPETITIONS = 1000

# Multiples of 1/8 stay exact under the shifts and scales below, so that ties stay ties.
EIGHTHS = st.integers(-8000, 8000).map(lambda value: value / 8)
SCORES = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=EIGHTHS)
QUICK = {"resamples": 50}

ONE_SAMPLE = {
    "interquartile_mean": interquartile_mean,
    "interquartile_mean_band": lambda scores: interquartile_mean_band(scores[0]),
    "performance_profile": lambda scores: performance_profile(scores, [0.0]),
    "stratified_bootstrap": lambda scores: stratified_bootstrap(scores, lambda s: s.max(axis=(0, 1))),
    "variance": variance,
    "variance_interval": variance_interval,
}
TWO_SAMPLES = {
    "difference_interval": difference_interval,
    "probability_of_improvement": probability_of_improvement,
    "variance_ratio": variance_ratio,
}


def normal(runs, *, seed, scale=1.0, tasks=1):
    return scale * np.random.default_rng(seed).normal(size=(tasks, runs, REPETITIONS))


def coverage(estimate, truth):
    """The share of the repetitions whose interval holds the truth."""
    return np.mean(~estimate.excludes(truth))


class TestInterquartileMean:
    def test_leaves_a_quarter_out_on_either_side(self):
        assert interquartile_mean([[100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]]) == 3.5

    def test_of_fewer_than_four_runs_is_the_mean(self):
        assert interquartile_mean([[1.0, 2.0, 6.0]]) == 3.0

    def test_takes_the_runs_of_all_tasks_together(self):
        assert interquartile_mean([[0.0, 1.0], [2.0, 90.0]]) == 1.5

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 10), (2, 64, 5), (1, 9, 2, 3)])
    @pytest.mark.parametrize("dtype", [np.float64, np.int64])
    def test_is_scipys_trimmed_mean(self, shape, dtype):
        scores = (100 * np.random.default_rng(0).normal(size=shape)).astype(dtype)
        expected = scipy.stats.trim_mean(scores.reshape(-1, *shape[2:]), 0.25, axis=0)
        np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-12)

    def test_is_computed_in_double_precision(self):
        scores = np.full((1, 3001), 0.1, np.float32)
        assert interquartile_mean(scores) == np.float64(np.float32(0.1))

    @pytest.mark.parametrize(("censored", "expected"), [(0, 4.5), (2, 4.5), (3, INF), (8, INF)])
    def test_is_infinite_once_more_than_a_quarter_is(self, censored, expected):
        scores = np.arange(1.0, 9.0)
        scores[8 - censored :] = INF
        assert interquartile_mean(scores[None]) == expected
        assert interquartile_mean(-scores[None]) == -expected

    @given(SCORES, st.integers(-50, 50), st.sampled_from([-4.0, -0.5, 0.25, 2.0]))
    @settings(deadline=None)
    def test_follows_shifts_and_scales(self, scores, shift, scale):
        expected = scale * interquartile_mean(scores) + shift
        np.testing.assert_allclose(interquartile_mean(scale * scores + shift), expected, rtol=1e-12, atol=1e-9)

    @given(SCORES, st.randoms())
    @settings(deadline=None)
    def test_does_not_depend_on_the_order_of_runs(self, scores, random):
        order = random.sample(range(scores.shape[1]), scores.shape[1])
        np.testing.assert_array_equal(interquartile_mean(scores[:, order]), interquartile_mean(scores))


class TestStratifiedBootstrap:
    def test_has_the_interval_of_normal_theory(self):
        scores = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 400))
        low, high = stratified_bootstrap(scores, lambda s: s.mean(axis=(0, 1)), confidence=0.9, resamples=20_000)
        half = 1.645 * scores.std() / np.sqrt(400)
        np.testing.assert_allclose([low, high], scores.mean() + np.array([-half, half]), rtol=0.01)

    def test_keeps_every_task_in_every_resample(self):
        """Runs within a task agree, so that only a resampling across tasks could move the mean."""
        low, high = stratified_bootstrap([[1.0, 1.0], [5.0, 5.0]], lambda s: s.mean(axis=(0, 1)))
        assert low == high == 3.0

    def test_draws_the_runs_of_each_task_on_their_own(self):
        """Two tasks of opposite runs: were the same runs drawn in both, the mean would always be 0."""
        low, high = stratified_bootstrap([[1.0, -1.0] * 8, [-1.0, 1.0] * 8], lambda s: s.mean(axis=(0, 1)))
        assert low < -0.2 and high > 0.2

    def test_draws_whole_runs(self):
        """A run's two points cancel; they would not if each were drawn from another run."""
        scores = np.random.default_rng(0).normal(size=(2, 10, 1)) * [1.0, -1.0]
        low, high = stratified_bootstrap(scores, lambda s: s.mean(axis=(0, 1)).sum(axis=-1))
        np.testing.assert_allclose([low, high], 0.0, atol=1e-15)

    def test_a_point_does_not_depend_on_its_neighbours(self):
        scores = np.random.default_rng(0).normal(size=(2, 64, 300))
        together = np.stack(stratified_bootstrap(scores, interquartile_mean))
        alone = np.stack(stratified_bootstrap(scores[..., 7], interquartile_mean))
        np.testing.assert_allclose(together[:, 7], alone, rtol=1e-12)

    def test_is_reproducible_and_moves_with_its_seed(self):
        scores = np.random.default_rng(0).normal(size=(1, 50))
        first, again, other = (stratified_bootstrap(scores, interquartile_mean, seed=seed) for seed in (0, 0, 1))
        assert first == again
        assert first != other

    def test_of_one_run_is_the_run(self):
        np.testing.assert_array_equal(interquartile_mean_band([[1.0, 2.0]]), [[1.0, 2.0]] * 3)

    @given(SCORES, st.integers(-50, 50), st.sampled_from([0.25, 2.0]))
    @settings(deadline=None)
    def test_follows_shifts_and_scales(self, scores, shift, scale):
        moved = np.stack(stratified_bootstrap(scale * scores + shift, interquartile_mean, **QUICK))
        expected = scale * np.stack(stratified_bootstrap(scores, interquartile_mean, **QUICK)) + shift
        np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-9)

    @given(SCORES)
    @settings(deadline=None)
    def test_mirrors_with_the_scores(self, scores):
        low, high = stratified_bootstrap(scores, interquartile_mean, **QUICK)
        mirrored_low, mirrored_high = stratified_bootstrap(-scores, interquartile_mean, **QUICK)
        np.testing.assert_allclose([mirrored_low, mirrored_high], [-high, -low], rtol=1e-12, atol=1e-9)

    @pytest.mark.parametrize("options", [{"confidence": 0.0}, {"confidence": 95}, {"resamples": 0}])
    def test_an_option_out_of_range_is_refused(self, options):
        with pytest.raises(ValueError, match="An interval needs 0 < confidence < 1 and a resample"):
            stratified_bootstrap([[1.0, 2.0]], interquartile_mean, **options)

    def test_a_statistic_that_is_nan_is_refused(self):
        with pytest.raises(ValueError, match="statistic of a resample is NaN"):
            stratified_bootstrap([[1.0, 2.0]], lambda s: np.full(s.shape[2:], np.nan))


class TestCoverage:
    """Nominally 95%; the bounds are four standard errors about what 2000 repetitions gave."""

    @pytest.mark.parametrize("runs", [16, 64])
    def test_of_the_interquartile_mean(self, runs):
        assert 0.915 < coverage(interquartile_mean_band(normal(runs, seed=1)[0], resamples=1000), 0.0) < 0.975

    def test_of_tasks_of_different_scores(self):
        scores = normal(16, seed=2, tasks=3) + np.array([-1.0, 0.0, 1.0])[:, None, None]
        low, high = stratified_bootstrap(scores, interquartile_mean, resamples=1000)
        assert 0.91 < coverage(Estimate(interquartile_mean(scores), low, high), 0.0) < 0.98

    def test_of_a_difference_of_unequal_runs(self):
        estimate = difference_interval(normal(64, seed=3) + 2.0, normal(32, seed=4, scale=3.0), resamples=1000)
        assert 0.915 < coverage(estimate, 2.0) < 0.975

    def test_of_the_probability_of_improvement(self):
        estimate = probability_of_improvement(normal(24, seed=5) + 1.0, normal(32, seed=6), resamples=1000)
        truth = scipy.stats.norm.cdf(1 / np.sqrt(2))
        assert 0.905 < coverage(estimate, truth) < 0.975

    def test_of_a_ratio_of_variances(self):
        estimate = variance_ratio(normal(64, seed=7, scale=2.0), normal(64, seed=8), resamples=1000)
        assert 0.91 < coverage(estimate, 4.0) < 0.97

    def test_of_a_variance_is_lower(self):
        assert 0.885 < coverage(variance_interval(normal(64, seed=9), resamples=1000), 1.0) < 0.955


class TestPerformanceProfile:
    def test_is_the_share_above_each_threshold(self):
        profile = performance_profile([[0.0, 1.0], [1.0, 3.0]], [-1.0, 0.0, 1.0, 3.0])
        np.testing.assert_array_equal(profile.value, [1.0, 0.75, 0.25, 0.0])

    def test_has_the_interval_of_the_binomial(self):
        scores = np.arange(400.0)[None]
        profile = performance_profile(scores, [99.5, 199.5], resamples=20_000)
        expected = 1.96 * np.sqrt(np.array([0.75, 0.5]) * np.array([0.25, 0.5]) / 400)
        np.testing.assert_allclose(profile.high - profile.value, expected, atol=0.004)
        np.testing.assert_allclose(profile.value - profile.low, expected, atol=0.004)

    def test_a_run_that_never_arrived_is_above_every_threshold(self):
        profile = performance_profile([[10.0, INF]], [5.0, 1e9])
        np.testing.assert_array_equal(profile.value, [1.0, 0.5])

    def test_takes_each_point_of_a_curve_on_its_own(self):
        profile = performance_profile([[[0.0, 5.0], [2.0, 5.0]]], [1.0, 4.0, 9.0])
        np.testing.assert_array_equal(profile.value, [[0.5, 0.0, 0.0], [1.0, 1.0, 0.0]])


class TestProbabilityOfImprovement:
    def test_counts_pairs_and_half_of_ties(self):
        assert probability_of_improvement([[1.0, 2.0]], [[0.0, 2.0, 3.0]]).value == (1 + 1.5) / 6

    def test_is_averaged_over_tasks(self):
        assert probability_of_improvement([[1.0], [1.0]], [[0.0], [1.0]]).value == 0.75

    def test_two_runs_that_never_arrived_tie(self):
        estimate = probability_of_improvement([[INF, INF]], [[INF, 1.0]])
        assert estimate.value == 0.75

    def test_is_mann_whitneys(self):
        x, y = normal(9, seed=1)[..., 0], normal(14, seed=2)[..., 0]
        expected = scipy.stats.mannwhitneyu(x[0], y[0]).statistic / (9 * 14)
        np.testing.assert_allclose(probability_of_improvement(x, y).value, expected, rtol=1e-12)

    def test_its_interval_is_that_of_resampled_scores(self):
        """Against a plain loop over resamples."""
        random = np.random.default_rng(3)
        x, y = random.normal(size=(2, 12)).round(1), random.normal(0.5, size=(2, 9)).round(1)
        shares = [
            probability_of_improvement(
                np.stack([random.choice(task, 12) for task in x]),
                np.stack([random.choice(task, 9) for task in y]),
                resamples=1,
            ).value
            for _ in range(4000)
        ]
        estimate = probability_of_improvement(x, y, resamples=20_000)
        np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(shares, [0.025, 0.975]), atol=0.015)

    def test_takes_each_point_of_a_curve_on_its_own(self):
        x, y = normal(8, seed=1, tasks=2)[..., :3], normal(6, seed=2, tasks=2)[..., :3]
        together = np.stack(probability_of_improvement(x, y))
        alone = np.stack([probability_of_improvement(x[..., k], y[..., k]) for k in range(3)], axis=-1)
        np.testing.assert_allclose(together, alone, rtol=1e-12)

    @given(SCORES, st.data())
    @settings(deadline=None)
    def test_of_x_and_of_y_add_to_one(self, x, data):
        shape = (x.shape[0], data.draw(st.integers(1, 6)), *x.shape[2:])
        y = data.draw(hnp.arrays(np.float64, shape, elements=EIGHTHS))
        forth, back = probability_of_improvement(x, y, **QUICK), probability_of_improvement(y, x, **QUICK)
        np.testing.assert_allclose(forth.value + back.value, 1.0, rtol=1e-12)
        assert (forth.low <= forth.high).all() and (forth.low >= 0).all() and (forth.high <= 1).all()


class TestDifference:
    def test_is_x_minus_y(self):
        estimate = difference_interval([[1.0, 2.0, 3.0, 4.0]], [[0.0, 1.0]])
        assert estimate.value == 2.0
        assert estimate.low < 2.0 < estimate.high

    def test_takes_any_statistic(self):
        estimate = difference_interval([[1.0, 9.0]], [[0.0, 2.0]], lambda s: s.max(axis=(0, 1)))
        assert estimate.value == 7.0

    def test_excludes_a_tie_when_the_runs_lie_apart_only(self):
        x, y = normal(64, seed=1)[..., 0], normal(64, seed=2)[..., 0]
        assert difference_interval(x + 1.0, y).excludes(0.0)
        assert difference_interval(x - 1.0, y).excludes(0.0)
        assert not difference_interval(x, y).excludes(0.0)

    def test_draws_y_independently_of_x(self):
        """From itself an algorithm's difference is 0, which would be certain were the same runs drawn for both."""
        scores = normal(64, seed=1)[..., 0]
        estimate = difference_interval(scores, scores)
        assert estimate.low < -0.2 and estimate.value == 0.0 and estimate.high > 0.2

    def test_two_that_never_arrive_tie(self):
        estimate = difference_interval(np.full((1, 8), INF), np.full((1, 8), INF))
        assert estimate == (0.0, 0.0, 0.0)
        assert not estimate.excludes(0.0)

    def test_one_that_arrives_is_infinitely_faster_than_one_that_never_does(self):
        estimate = difference_interval(np.arange(1.0, 9.0)[None], np.full((1, 8), INF))
        assert estimate == (-INF, -INF, -INF)
        assert estimate.excludes(0.0)

    def test_a_few_runs_that_never_arrive_are_left_out(self):
        """One run in sixteen: fewer than a quarter of almost every resample."""
        random = np.random.default_rng(4)
        fast, slow = random.uniform(100, 200, size=(1, 64)), random.uniform(300, 400, size=(1, 64))
        fast[0, :4] = slow[0, :4] = INF
        estimate = difference_interval(fast, slow)
        assert np.isfinite(estimate).all() and estimate.excludes(0.0)
        assert -250 < estimate.low < estimate.value < estimate.high < -150

    def test_about_a_quarter_that_never_arrive_leaves_the_end_open(self):
        slow = np.where(np.arange(64) < 16, INF, np.linspace(300, 400, 64))[None]
        estimate = difference_interval(np.linspace(100, 200, 64)[None], slow)
        assert np.isfinite(estimate.value) and estimate.low == -INF and estimate.high < -150


class TestVariance:
    def test_is_unbiased_and_averaged_over_tasks(self):
        assert variance([[1.0, 3.0], [0.0, 4.0]]) == 5.0

    def test_interval_is_that_of_chi_squared(self):
        scores = np.random.default_rng(0).normal(size=(1, 1000))
        estimate = variance_interval(scores, resamples=20_000)
        expected = 999 * variance(scores) / scipy.stats.chi2.ppf([0.975, 0.025], 999)
        np.testing.assert_allclose([estimate.low, estimate.high], expected, rtol=0.02)

    def test_ratio_finds_the_smaller_variance(self):
        x, y = normal(64, seed=1)[..., 0], normal(64, seed=2, scale=2.0)[..., 0]
        estimate = variance_ratio(x, y)
        assert estimate.value == variance(x) / variance(y)
        assert estimate.high < 1.0 and estimate.excludes(1.0)
        assert not variance_ratio(x, y / 2).excludes(1.0)

    def test_two_that_do_not_vary_tie(self):
        estimate = variance_ratio(np.full((1, 8), 500.0), np.full((1, 6), 500.0))
        assert estimate == (1.0, 1.0, 1.0)

    def test_one_that_varies_is_infinitely_above_one_that_does_not(self):
        estimate = variance_ratio(np.arange(8.0)[None], np.full((1, 8), 500.0))
        assert estimate == (INF, INF, INF)
        assert variance_ratio(np.full((1, 8), 500.0), np.arange(8.0)[None]) == (0.0, 0.0, 0.0)

    @pytest.mark.parametrize("function", [variance, variance_interval])
    def test_infinite_scores_are_refused(self, function):
        with pytest.raises(ValueError, match="A variance needs finite scores"):
            function([[1.0, INF, 2.0]])

    def test_one_run_is_refused(self):
        with pytest.raises(ValueError, match="needs two runs or more"):
            variance([[1.0], [2.0]])


class TestScores:
    @pytest.mark.parametrize("function", ONE_SAMPLE.values(), ids=ONE_SAMPLE)
    @pytest.mark.parametrize("bad", [np.nan, INF])
    def test_nan_and_both_infinities_are_refused(self, function, bad):
        with pytest.raises(ValueError, match=r"NaN|both inf and -inf"):
            function(np.array([[1.0, 2.0, bad, -INF]]))

    @pytest.mark.parametrize("function", TWO_SAMPLES.values(), ids=TWO_SAMPLES)
    def test_nan_is_refused_in_either(self, function):
        whole, holed = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, np.nan, 3.0]])
        for pair in ((whole, holed), (holed, whole)):
            with pytest.raises(ValueError, match="replace a diverged run's by the failure's value first"):
                function(*pair)

    @pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0), (1, 3, 0)])
    def test_missing_axes_and_runs_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"Scores are \[tasks, runs, ...\] with a run or more"):
            interquartile_mean(np.zeros(shape))

    @pytest.mark.parametrize("function", TWO_SAMPLES.values(), ids=TWO_SAMPLES)
    @pytest.mark.parametrize("shape", [(2, 3), (1, 3, 5)])
    def test_pairs_of_other_tasks_or_points_are_refused(self, function, shape):
        with pytest.raises(ValueError, match="may differ in their runs"):
            function(np.zeros((1, 4)), np.zeros(shape))


def test_the_band_of_a_long_curve_takes_seconds_at_most():
    values = np.random.default_rng(0).normal(size=(256, 200))
    start = time.perf_counter()
    interquartile_mean_band(values)
    assert time.perf_counter() - start < 15  # 0.5 s alone on one core


def test_equal_scores_tie_without_rounding():
    """Two algorithms at the ceiling of a score, a number that its own mean may miss."""
    ceilings = np.linspace(0.1, 2.0, 50)
    x, y = np.broadcast_to(ceilings, (3, 20, 50)), np.broadcast_to(ceilings, (3, 15, 50))
    assert not difference_interval(x, y).excludes(0.0).any()
    assert not probability_of_improvement(x, y).excludes(0.5).any()
    assert not variance_ratio(x, y).excludes(1.0).any()

"""Advantages: against the group, against the other trajectories, and generalised over the steps of a segment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from haepo_jax import (
    generalized_advantages,
    group_relative_advantages,
    leave_one_out_advantages,
    maxrl_advantages,
    normalize_returns,
    reinforce_plus_plus_advantages,
)

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(6,), (2, 3, 6)]
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
WHOLE = arrays(np.float32, 6, elements=st.integers(-1000, 1000))  # arithmetic on these is exact
MASK = arrays(bool, 6)
ORDER = st.permutations(range(6))

relative = jax.jit(group_relative_advantages, static_argnames="scale")
left_out = jax.jit(leave_one_out_advantages)
generalized = jax.jit(generalized_advantages)
whitened = jax.jit(reinforce_plus_plus_advantages, static_argnames="baseline")
over_success = jax.jit(maxrl_advantages)

OVER_TRAJECTORIES = {
    "scaled": lambda returns, where=None: relative(returns, where=where),
    "unscaled": lambda returns, where=None: relative(returns, scale=False, where=where),
    "leave_one_out": lambda returns, where=None: left_out(returns, where=where),
}


@pytest.fixture(params=OVER_TRAJECTORIES.values(), ids=OVER_TRAJECTORIES)
def function(request):
    return request.param


class TestGroupRelative:
    def test_by_hand(self):
        # mean 3, deviations -2, -1, 3, variance 14 / 3
        returns, deviations = jnp.array([1.0, 2.0, 6.0]), np.array([-2, -1, 3])
        np.testing.assert_allclose(group_relative_advantages(returns), deviations / np.sqrt(14 / 3), rtol=1e-6)
        np.testing.assert_allclose(group_relative_advantages(returns, scale=False), deviations, rtol=1e-6)

    def test_scaled_is_the_zscore(self, make_batch):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        expected = normalize_returns(batch.returns, where=batch.where)
        np.testing.assert_array_equal(group_relative_advantages(batch.returns, where=batch.where), expected)

    def test_scaled_is_that_of_the_sample_up_to_a_factor(self, make_batch):
        returns = make_batch((6,)).returns
        of_the_sample = (returns - returns.mean()) / returns.std(ddof=1)
        np.testing.assert_allclose(relative(returns) * np.sqrt(5 / 6), of_the_sample, rtol=1e-5)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, reference, make_batch, shape, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = np.ones(shape, bool) if garbage is None else batch.where
        expected = reference.normalize(batch.returns, "zscore", where)
        np.testing.assert_allclose(relative(batch.returns, where=where), expected, rtol=1e-5, atol=1e-6)
        kept = np.where(where, batch.returns, 0)
        mean = kept.sum(-1, keepdims=True) / where.sum(-1, keepdims=True)
        unscaled = relative(batch.returns, where=where, scale=False)
        np.testing.assert_allclose(unscaled, np.where(where, kept - mean, 0), rtol=1e-5, atol=1e-6)

    @PROPERTY
    @given(WHOLE, st.integers(-1000, 1000), st.booleans())
    def test_a_constant_added_to_all_returns_changes_nothing(self, returns, constant, scale):
        shifted = relative(returns + np.float32(constant), scale=scale)
        np.testing.assert_array_equal(shifted, relative(returns, scale=scale))


class TestLeaveOneOut:
    def test_by_hand(self):
        # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
        np.testing.assert_allclose(leave_one_out_advantages(jnp.array([1.0, 2.0, 6.0])), [-3, -1.5, 4.5], rtol=1e-6)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, reference, make_batch, shape, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = np.ones(shape, bool) if garbage is None else batch.where
        expected = reference.leave_one_out(batch.returns, where)
        np.testing.assert_allclose(left_out(batch.returns, where=where), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("valid", [1, 2])
    def test_a_lone_valid_trajectory_has_no_advantage_and_of_two_each_is_measured_on_the_other(self, valid):
        where = jnp.arange(4) < valid
        got = leave_one_out_advantages(jnp.array([7.0, 3.0, jnp.nan, 1.0]), where=where)
        np.testing.assert_allclose(got, [0, 0, 0, 0] if valid == 1 else [4, -4, 0, 0], rtol=1e-6)

    def test_the_baseline_does_not_depend_on_the_return_itself(self):
        returns = jnp.array([1.0, 2.0, 6.0])
        raised = leave_one_out_advantages(returns.at[0].add(10)) - leave_one_out_advantages(returns)
        np.testing.assert_allclose(raised, [10, -5, -5], rtol=1e-6)


class TestOverTrajectories:
    """What both have in common."""

    @PROPERTY
    @given(WHOLE, MASK)
    def test_sum_to_zero(self, returns, where):
        for function in OVER_TRAJECTORIES.values():
            advantages = np.asarray(function(returns, where), np.float64)
            np.testing.assert_allclose(advantages.sum(), 0, atol=5e-6 * max(1, np.abs(advantages).max()))

    @PROPERTY
    @given(WHOLE, MASK, ORDER)
    def test_permuted_trajectories_have_permuted_advantages(self, returns, where, order):
        order = np.array(order)
        for function in OVER_TRAJECTORIES.values():
            permuted = function(returns[order], where[order])
            np.testing.assert_allclose(permuted, function(returns, where)[order], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("value", [0.1, -1234.567, 3e30])
    @pytest.mark.parametrize("number", [1, 3, 10])
    def test_of_equal_returns_are_exactly_zero(self, function, value, number):
        np.testing.assert_array_equal(function(jnp.full(number, value, jnp.float32)), np.zeros(number))

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_a_masked_trajectory_equals_a_dropped_one(self, function, garbage):
        masked = function(jnp.array([1.0, garbage, 3.0, 5.0]), jnp.array([True, False, True, True]))
        dropped = function(jnp.array([1.0, 3.0, 5.0]))
        np.testing.assert_allclose(masked, np.insert(dropped, 1, 0), rtol=1e-6, atol=1e-7)  # one is 0 but for rounding
        assert masked[1] == 0

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_all_masked_are_zero(self, function, garbage):
        np.testing.assert_array_equal(function(jnp.full((2, 3), garbage), jnp.zeros((2, 3), bool)), np.zeros((2, 3)))

    def test_are_constants_to_the_gradient(self, function):
        returns = jnp.array([1.0, 2.0, 6.0])
        gradient = jax.grad(lambda x: (function(x) * returns).sum())(returns)
        np.testing.assert_array_equal(gradient, np.zeros(3))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, function, dtype):
        assert function(jnp.array([1, 2, 3], dtype)).dtype == jnp.float32

    def test_float64_stays_float64(self, function, x64):
        got = function(np.array([1.0, 1 + 1e-9]))
        assert got.dtype == jnp.float64
        assert got[1] > got[0]

    @pytest.mark.parametrize("function", [group_relative_advantages, leave_one_out_advantages])
    @pytest.mark.parametrize("options", [{}, {"scale": False}])
    def test_errors(self, function, options):
        if function is leave_one_out_advantages:
            options = {}
        with pytest.raises(ValueError, match="returns must have at least one axis, got a scalar"):
            function(jnp.float32(1), **options)
        with pytest.raises(TypeError, match="where must be boolean"):
            function(jnp.zeros(3), where=jnp.ones(3), **options)
        with pytest.raises(AssertionError) as error:
            function(jnp.zeros((2, 3)), where=jnp.ones(3, bool), **options)
        assert "returns (2, 3)" in str(error.value) and "where (3,)" in str(error.value)


def segment(shape, seed=0):
    """Random rewards, values, next values, and steps that end an episode: by the task itself, or cut."""
    rng = np.random.default_rng(seed)
    terminated, cut = rng.random(shape) < 0.2, rng.random(shape) < 0.2
    return *rng.normal(size=(3, *shape)), terminated, terminated | cut


def estimate(rewards, values, next_values, terminated, done, discount=0.9, gae_lambda=0.8):
    options = {"terminated": terminated, "done": done, "discount": discount, "gae_lambda": gae_lambda}
    return generalized(rewards, values, next_values, **options)


class TestGeneralized:
    def test_by_hand(self):
        # Rewards 1 and values 4 throughout, discount and lambda 1/2. The second step is cut and counts the value 8
        # of its true next observation, the third terminates, the last continues outside the segment.
        next_values, terminated, done = [4, 8, 4, 4], [False, False, True, False], [False, True, True, False]
        # deltas 1 + 2 - 4, 1 + 4 - 4, 1 - 4, 1 + 2 - 4; a quarter of the second counts for the first
        got = estimate(jnp.ones(4), jnp.full(4, 4.0), jnp.array(next_values), terminated, done, 0.5, 0.5)
        np.testing.assert_array_equal(got, [-1 + 1 / 4, 1, -3, -1])

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize(("discount", "gae_lambda"), [(0.9, 0.8), (1, 1), (0.9, 0), (0, 0.8), (1.0, 0.95)])
    def test_match_the_reference(self, reference, shape, discount, gae_lambda):
        arrays = segment(shape)
        got = estimate(*arrays, discount, gae_lambda)
        expected = reference.generalized_advantages(*arrays, discount, gae_lambda)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    def test_match_the_reference_in_double_precision(self, reference, x64):
        arrays = segment((2, 20))
        got = estimate(*arrays)
        assert got.dtype == jnp.float64
        expected = reference.generalized_advantages(*arrays, 0.9, 0.8)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)

    def test_agree_with_rlax_on_a_segment_whose_episodes_all_terminate(self, rlax):
        rng = np.random.default_rng(1)
        rewards, values = rng.normal(size=20).astype(np.float32), rng.normal(size=21).astype(np.float32)
        ended = rng.random(20) < 0.2
        assert ended.any()
        discounts = np.where(ended, 0, 0.9).astype(np.float32)
        expected = rlax.truncated_generalized_advantage_estimation(rewards, discounts, 0.8, values)
        got = estimate(rewards, values[:-1], values[1:], ended, ended)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    def test_with_lambda_zero_are_one_step_temporal_differences(self):
        rewards, values, next_values, terminated, done = segment((30,))
        expected = rewards + 0.9 * np.where(terminated, 0, next_values) - values
        np.testing.assert_allclose(estimate(rewards, values, next_values, terminated, done, 0.9, 0), expected, 1e-5)

    def test_with_lambda_one_are_returns_less_the_value(self):
        # one whole episode: V(s'_t) = V(s_{t+1}), and the values telescope
        rewards, values = np.arange(1.0, 7), np.array([3.0, -1, 4, 1, -5, 9])
        ended = np.arange(6) == 5
        returns = [sum(0.9**ahead * r for ahead, r in enumerate(rewards[t:])) for t in range(6)]
        got = estimate(rewards, values, np.append(values[1:], np.nan), ended, ended, 0.9, 1)
        np.testing.assert_allclose(got, np.array(returns) - values, rtol=1e-5)

    def test_a_cut_episode_counts_the_value_it_was_cut_at_and_a_terminated_one_does_not(self):
        ones, ended, going = jnp.ones(2), jnp.array([True, False]), jnp.zeros(2, bool)
        next_values = jnp.array([10.0, 0.0])
        np.testing.assert_array_equal(estimate(ones, 0 * ones, next_values, going, ended, 0.5, 1), [6, 1])
        np.testing.assert_array_equal(estimate(ones, 0 * ones, next_values, ended, ended, 0.5, 1), [1, 1])
        np.testing.assert_array_equal(estimate(ones, 0 * ones, next_values, going, going, 0.5, 1), [6.5, 1])

    def test_terminated_implies_done(self):
        rewards, values, next_values, terminated, _ = segment((2, 30))
        got = estimate(rewards, values, next_values, terminated, np.zeros_like(terminated))
        np.testing.assert_array_equal(got, estimate(rewards, values, next_values, terminated, terminated))

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("terminated", [True, False])
    def test_garbage_after_the_end_of_an_episode_does_not_reach_it(self, garbage, terminated):
        arrays = [jnp.array([1.0, 2.0, garbage])] * 3
        done = jnp.array([False, True, False])
        got = estimate(*arrays, done & terminated, done)
        np.testing.assert_array_equal(got[:2], estimate(*(a[:2] for a in arrays), (done & terminated)[:2], done[:2]))
        assert np.isfinite(got[:2]).all() and not np.isfinite(got[2])

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_the_next_value_of_a_terminated_step_does_not_matter(self, garbage):
        ended = jnp.array([False, True])
        got = estimate(jnp.ones(2), jnp.zeros(2), jnp.array([3.0, garbage]), ended, ended, 1, 1)
        np.testing.assert_array_equal(got, [5, 1])

    @PROPERTY
    @given(WHOLE, WHOLE, WHOLE, MASK, MASK, st.integers(1, 5))
    def test_an_episode_that_ends_splits_the_segment_in_two(self, rewards, values, next_values, terminated, cut, at):
        done = terminated | cut
        done[at - 1] = True
        arrays = rewards, values, next_values, terminated, done
        parts = [estimate(*(a[:at] for a in arrays)), estimate(*(a[at:] for a in arrays))]
        np.testing.assert_allclose(estimate(*arrays), np.concatenate(parts), rtol=1e-5, atol=1e-3)

    def test_are_constants_to_the_gradient(self):
        def total(arrays, discount, gae_lambda):
            return estimate(*arrays, *segment((6,))[3:], discount, gae_lambda).sum()

        arrays = segment((6,))[:3]
        for gradient in jax.tree.leaves(jax.grad(total, argnums=(0, 1, 2))(arrays, 0.9, 0.8)):
            np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))

    def test_vmap_over_settings_equals_a_loop(self):
        arrays = [np.float32(array) if array.dtype == float else array for array in segment((2, 6))]
        discounts, lambdas = np.array([0.9, 1.0, 0.5], np.float32), np.array([0.8, 0.0, 1.0], np.float32)
        swept = jax.vmap(estimate, (None,) * 5 + (0, 0))(*arrays, discounts, lambdas)
        for got, *options in zip(swept, discounts, lambdas, strict=True):
            np.testing.assert_allclose(got, estimate(*arrays, *options), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    @pytest.mark.parametrize("flags", [bool, jnp.int32, jnp.float32])
    def test_narrow_input_gives_float32(self, dtype, flags):
        x, ended = jnp.ones(3, dtype), jnp.array([0, 1, 0], flags)
        got = estimate(x, x, x, ended, ended, 0.5, 1)
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, [0.5, 0, 0.5])

    def test_no_steps_have_no_advantages(self):
        none, flags = jnp.zeros((2, 0)), jnp.zeros((2, 0), bool)
        assert estimate(none, none, none, flags, flags).shape == (2, 0)

    def test_refuse_a_scalar(self):
        with pytest.raises(ValueError, match="rewards must have at least one axis, got a scalar"):
            estimate(1.0, 1.0, 1.0, True, True)

    @pytest.mark.parametrize("name", ["discount", "gae_lambda"])
    @pytest.mark.parametrize("shape", [(1,), (3,)])
    def test_refuse_settings_that_would_broadcast(self, name, shape):
        x, flags = jnp.zeros((2, 3)), jnp.zeros((2, 3), bool)
        options = {"discount": 0.9, "gae_lambda": 0.8} | {name: jnp.ones(shape)}
        with pytest.raises(ValueError, match=f"{name} must be a scalar, got an array of shape"):
            generalized_advantages(x, x, x, terminated=flags, done=flags, **options)

    @pytest.mark.parametrize("name", ["rewards", "values", "next_values", "terminated", "done"])
    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
    def test_refuse_shapes_that_would_broadcast(self, name, shape):
        arrays = dict.fromkeys(["rewards", "values", "next_values", "terminated", "done"], jnp.zeros((2, 3)))
        arrays[name] = jnp.zeros(shape)
        with pytest.raises(AssertionError) as error:
            generalized_advantages(**arrays, discount=0.9, gae_lambda=0.8)
        assert "(2, 3)" in str(error.value) and f"{name} {shape}" in str(error.value)


@pytest.mark.parametrize("baseline", [False, True])
class TestReinforcePlusPlus:
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_is_whitened_over_all_groups(self, make_batch, baseline, garbage):
        where = make_batch((3, 6)).where if garbage is not None else np.ones((3, 6), bool)
        values = np.where(where, make_batch((3, 6)).returns, 0)
        if baseline:
            values = values - values.sum(-1, keepdims=True) / where.sum(-1, keepdims=True)
        kept = values[where]
        expected = np.where(where, (values - kept.mean()) / (kept.std() + 1e-8), 0)
        got = whitened(make_batch((3, 6), garbage=garbage).returns, baseline=baseline, where=where)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)

    def test_of_one_group_is_that_of_grpo(self, reference, make_batch, baseline):
        batch = make_batch((3, 6))
        batch.where[1:] = False
        got = whitened(batch.returns, baseline=baseline, where=batch.where)
        np.testing.assert_allclose(
            got, reference.normalize(batch.returns, "zscore", batch.where), rtol=1e-4, atol=1e-6
        )

    def test_equal_returns_and_masked_ones_give_exactly_zero(self, make_batch, baseline):
        got = whitened(np.full((3, 6), 0.1), baseline=baseline, where=make_batch((3, 6)).where)
        np.testing.assert_array_equal(got, np.zeros((3, 6)))

    def test_groups_spread_over_an_axis_give_the_same(self, make_batch, baseline):
        returns = make_batch((3, 6)).returns.astype(np.float32)
        local = lambda x: reinforce_plus_plus_advantages(x, baseline=baseline, axis_name="g")  # noqa: E731
        got = jax.jit(jax.vmap(local, axis_name="g"))(returns)
        expected = whitened(returns, baseline=baseline, where=np.ones((3, 6), bool))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


class TestMaxRl:
    def test_its_gradient_is_the_mean_score_of_the_successes(self):
        successes = np.array([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
        scores = np.random.default_rng(0).normal(size=(2, 5))
        scores -= scores.mean(-1, keepdims=True)  # the baseline's part, 0 in expectation
        got = (over_success(successes) * scores).mean(-1)
        np.testing.assert_allclose(got, [scores[0, [0, 3]].mean(), scores[1, 2]], rtol=1e-5)

    def test_match_the_formula_where_masked(self, make_batch):
        batch = make_batch((3, 6), garbage=np.nan)
        mean = np.where(batch.where, batch.returns, 0).sum(-1, keepdims=True) / batch.where.sum(-1, keepdims=True)
        expected = np.where(batch.where, batch.returns / mean - 1, 0)
        got = over_success(batch.returns, where=batch.where)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)

    def test_a_group_without_success_of_successes_alone_or_of_a_negative_mean_gives_exactly_zero(self):
        for returns in ([[0.0] * 5, [1.0] * 5], [[-1.0, 0.5, 0, 0, 0], [0.1] * 5]):
            np.testing.assert_array_equal(over_success(np.array(returns)), np.zeros((2, 5)))

    def test_negative_returns_are_refused(self):
        with pytest.raises(ValueError, match=r"^returns must not be negative, as they are divided by .* got -1.0\.$"):
            maxrl_advantages(jnp.array([-1.0, 0.5]))

    def test_trajectories_spread_over_an_axis_give_the_same(self):
        returns = np.arange(10, dtype=np.float32).reshape(2, 5)
        local = jax.jit(jax.vmap(lambda x: maxrl_advantages(x[:, None], axis_name="m"), 1, 1, axis_name="m"))
        np.testing.assert_allclose(local(returns)[..., 0], over_success(returns), rtol=1e-5)


def test_whitening_over_the_batch_leaves_a_group_of_nearly_equal_returns_small():
    returns = np.array([[0.0, 0.01] * 3, [0.0, 1.0] * 3, [0.0, 1.0] * 3])
    got = whitened(returns, baseline=True, where=np.ones((3, 6), bool))
    assert abs(got[0]).max() < 0.02
    assert abs(got[1]).max() > 1

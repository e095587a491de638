"""Importance weights of steps, and masks of groups and of trajectories that did not finish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import finished_mask, group_relative_advantages, importance_weights, varied_groups

LOG_RATIO = np.log([[2.0, 0.5, 4.0], [0.25, 1.0, 1.0]])
WHERE = np.array([[True, True, False], [True, True, True]])


KINDS = {
    "token": {"level": "token"},
    "sequence": {"level": "sequence"},
    "geometric_mean": {"level": "geometric_mean"},
    "from_above": {"level": "token", "high": 1.5},
    "both_sides": {"level": "token", "low": 0.5, "high": 3.0},
    "mask_above": {"level": "token", "mode": "mask", "high": 1.5},
    "mask_below": {"level": "token", "mode": "mask", "low": 0.5},
}


@jax.jit
def weigh(log_ratio, where):
    """Weights of all kinds, from one program."""
    return {name: importance_weights(log_ratio, where=where, **options) for name, options in KINDS.items()}


class TestImportanceWeights:
    @pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
    def test_by_hand_where_masked(self, garbage):
        got = weigh(np.where(WHERE, LOG_RATIO, garbage), WHERE)
        np.testing.assert_allclose(got["token"], [[2, 0.5, 0], [0.25, 1, 1]], rtol=1e-6)
        np.testing.assert_allclose(got["sequence"], [[1, 1, 0], [0.25] * 3], rtol=1e-6)
        np.testing.assert_allclose(got["geometric_mean"], [[1, 1, 0], [0.25 ** (1 / 3)] * 3], rtol=1e-6)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("from_above", [[1.5, 0.5, 1.5], [0.25, 1, 1]]),
            ("both_sides", [[2, 0.5, 3], [0.5, 1, 1]]),
            ("mask_above", [[0, 0.5, 0], [0.25, 1, 1]]),
            ("mask_below", [[2, 0.5, 4], [0, 1, 1]]),
        ],
    )
    def test_truncation_holds_and_a_mask_silences_what_is_out_of_bounds(self, kind, expected):
        np.testing.assert_allclose(weigh(LOG_RATIO, np.ones((2, 3), bool))[kind], expected, rtol=1e-6)

    def test_are_constants_and_finite_and_of_single_precision_under_traced_bounds_and_vmap(self):
        def weights(x, high):
            return importance_weights(x, level="sequence", high=high)

        x = jnp.array([[1e4, 200.0], [0, 0]], jnp.bfloat16)
        got, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda x, high: weights(x, high).sum()), (0, None)))(x, 1e9)
        np.testing.assert_allclose(got, [2e9, 2])
        assert not slopes.any() and jax.eval_shape(weights, x, 1.0).dtype == jnp.float32

    def test_bounds_the_wrong_way_round_are_refused(self):
        with pytest.raises(ValueError, match=r"^low must not be above high, got 2 and 1\.$"):
            importance_weights(LOG_RATIO, level="token", low=2, high=1)
        with pytest.raises(ValueError, match=r"^low must be positive, got -1\.$"):
            importance_weights(LOG_RATIO, level="token", low=-1)


class TestVariedGroups:
    RETURNS = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.3], [0.1, 0.2, 0.1], [1.0, 2.0, 3.0]])

    def test_are_those_that_have_an_advantage(self):
        where = np.ones((4, 3), bool)
        where[2, 1] = where[3, :] = False
        returns = np.where(where, self.RETURNS, np.nan)
        both = jax.jit(lambda *x: (varied_groups(x[0], where=x[1]), group_relative_advantages(x[0], where=x[1])))
        got, advantages = both(returns, where)
        np.testing.assert_array_equal(got, [False, True, False, False])
        np.testing.assert_array_equal(got, (advantages != 0).any(-1))

    def test_trajectories_spread_over_an_axis_give_the_same(self):
        returns = np.array([0.1, 0.1, 0.1, 0.3], np.float32).reshape(2, 2)  # equal on one device, not on both
        got = jax.jit(jax.vmap(lambda x: varied_groups(x, axis_name="m"), axis_name="m"))(returns)
        np.testing.assert_array_equal(got, [True, True])


class TestFinished:
    def test_steps_of_trajectories_with_a_valid_end_are_marked(self):
        done = np.array([[False, True, False], [False, False, True], [False, False, False]])
        where = np.array([[True, True, False], [True, True, False], [True, True, True]])
        mark = jax.jit(jax.vmap(lambda done, where: finished_mask(done, where=where)))
        np.testing.assert_array_equal(mark(done, where), [[True, True, False], [False] * 3, [False] * 3])
        np.testing.assert_array_equal(mark(done, np.ones((3, 3), bool)), [[True] * 3, [True] * 3, [False] * 3])

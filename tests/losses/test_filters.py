"""Importance weights of steps, and masks of groups and of trajectories that did not finish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax import finished_mask, group_relative_advantages, importance_weights, varied_groups

LOG_RATIO = np.log([[2.0, 0.5, 4.0], [0.25, 1.0, 1.0]])
WHERE = np.array([[True, True, False], [True, True, True]])


class TestImportanceWeights:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("token", [[2, 0.5, 0], [0.25, 1, 1]]),
            ("sequence", [[1, 1, 0], [0.25] * 3]),
            ("geometric_mean", [[1, 1, 0], [0.25 ** (1 / 3)] * 3]),
        ],
    )
    @pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
    def test_by_hand_where_masked(self, level, expected, garbage):
        got = importance_weights(np.where(WHERE, LOG_RATIO, garbage), level=level, where=WHERE)
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("mode", "bounds", "expected"),
        [
            ("truncate", {"high": 1.5}, [[1.5, 0.5, 1.5], [0.25, 1, 1]]),
            ("truncate", {"low": 0.5, "high": 3.0}, [[2, 0.5, 3], [0.5, 1, 1]]),
            ("mask", {"high": 1.5}, [[0, 0.5, 0], [0.25, 1, 1]]),
            ("mask", {"low": 0.5}, [[2, 0.5, 4], [0, 1, 1]]),
        ],
    )
    def test_truncation_holds_and_a_mask_silences_what_is_out_of_bounds(self, mode, bounds, expected):
        np.testing.assert_allclose(
            importance_weights(LOG_RATIO, level="token", mode=mode, **bounds), expected, rtol=1e-6
        )

    def test_are_constants_and_finite_and_of_single_precision(self):
        weights = lambda x: importance_weights(x, level="sequence").sum()  # noqa: E731
        x = jnp.array([[1e4, 200.0]], jnp.bfloat16)
        assert np.isfinite(weights(x)) and weights(x).dtype == jnp.float32 and not jax.grad(weights)(x).any()

    def test_jit_with_traced_bounds_and_vmap_give_the_same(self):
        function = jax.jit(jax.vmap(lambda x, high: importance_weights(x, level="sequence", high=high), (0, None)))
        np.testing.assert_allclose(function(LOG_RATIO, 1.5), importance_weights(LOG_RATIO, level="sequence", high=1.5))

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
        got = varied_groups(returns, where=where)
        np.testing.assert_array_equal(got, [False, True, False, False])
        advantages = group_relative_advantages(returns, where=where)
        np.testing.assert_array_equal(got, (advantages != 0).any(-1))

    def test_trajectories_spread_over_an_axis_give_the_same(self):
        returns = np.array([0.1, 0.1, 0.1, 0.3], np.float32).reshape(2, 2)  # equal on one device, not on both
        got = jax.vmap(lambda x: varied_groups(x, axis_name="m"), axis_name="m")(returns)
        np.testing.assert_array_equal(got, [True, True])


class TestFinished:
    def test_steps_of_trajectories_with_a_valid_end_are_marked(self):
        done = np.array([[False, True, False], [False, False, True], [False, False, False]])
        where = np.array([[True, True, False], [True, True, False], [True, True, True]])
        np.testing.assert_array_equal(
            finished_mask(done, where=where), [[True, True, False], [False] * 3, [False] * 3]
        )
        np.testing.assert_array_equal(finished_mask(done)[:, 0], [True, True, False])

    def test_jit_and_vmap_give_the_same(self):
        done = np.eye(3, dtype=bool)[:2]
        np.testing.assert_array_equal(jax.jit(jax.vmap(finished_mask))(done), finished_mask(done))

import numpy as np
import pytest

from haepo_jax.analysis.few_seeds import FEWEST_SEEDS, drop_unsupported, estimate_interquartile_mean
from haepo_jax.analysis.statistics import Estimate, interquartile_mean_band


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_have_a_value_without_an_interval(seeds):
    values = np.random.default_rng(0).normal(size=(seeds, 3))
    found, plain = estimate_interquartile_mean(values), interquartile_mean_band(values)
    np.testing.assert_array_equal(found.value, plain.value)
    assert np.isnan(found.low).all() and np.isnan(found.high).all() and found.low.shape == (3,)


def test_five_seeds_have_one():
    values = np.random.default_rng(0).normal(size=(FEWEST_SEEDS, 3))
    np.testing.assert_array_equal(estimate_interquartile_mean(values), interquartile_mean_band(values))
    estimate = Estimate(*map(np.float64, (1.0, 0.5, 2.0)))
    assert FEWEST_SEEDS == 5 and drop_unsupported(estimate, 5) == estimate

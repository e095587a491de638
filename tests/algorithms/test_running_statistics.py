"""Running mean and variance against NumPy's in double precision."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from jax.sharding import NamedSharding, PartitionSpec

from haepo_jax.algorithms.running_statistics import measure_statistics, merge_statistics, no_statistics

SPREAD = np.array([1.0, 0.1, 30.0])


def batches_of(offset, number, rows=8, seed=0):
    """`[number, rows, 3]` and which of the rows count."""
    rng = np.random.default_rng(seed)
    values = offset + rng.normal(size=(number, rows, 3)) * SPREAD
    return values.astype(np.float32), rng.uniform(size=(number, rows)) < 0.6


measure = jax.jit(measure_statistics)


def exact(precise):
    """The number that value and rest make together; how it is divided between them is rounding."""
    return np.float64(precise.value) + np.float64(precise.rest)


@jax.jit
def run_over(values, where):
    def add(seen, batch):
        return merge_statistics(seen, measure_statistics(*batch)), None

    return jax.lax.scan(add, no_statistics(values.shape[2:]), (values, where))[0]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_long_run_has_the_mean_and_variance_of_all_that_counts(offset):
    values, where = batches_of(offset, 30_000)
    seen, counted = run_over(values, where), values[where].astype(np.float64)
    assert seen.count.value == len(counted)
    np.testing.assert_allclose((exact(seen.mean) - counted.mean(0)) / counted.std(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.variance, counted.var(0), rtol=2e-5)


def test_what_a_plain_float_would_round_away_is_kept():
    """Batches whose share of the mean and of the count is below the last digit of either."""
    before = measure_statistics(jnp.full((1, 1), 1.0), jnp.ones(1, bool))
    before = before.replace(count=before.count.replace(value=jnp.float32(2**26)))
    one = measure_statistics(jnp.full((1, 1), 2.0), jnp.ones(1, bool))
    after, _ = jax.lax.scan(lambda seen, _: (merge_statistics(seen, one), None), before, None, length=63)
    assert exact(after.count) == 2**26 + 63
    moved = np.float64(after.mean.value - 1) + np.float64(after.mean.rest)
    np.testing.assert_allclose(moved, 63 / 2**26, rtol=1e-4)
    np.testing.assert_allclose(after.squares.value, 63, rtol=1e-4)


def test_a_constant_has_no_variance_whatever_its_size():
    seen = run_over(np.full((50, 7, 1), 123.456, np.float32), np.ones((50, 7), bool))
    assert seen.variance == 0 and seen.mean.value == np.float32(123.456)


def test_what_does_not_count_may_be_anything():
    values, where = batches_of(5.0, 4)
    spoilt = np.where(where[..., None], values, np.inf)
    jax.tree.map(np.testing.assert_array_equal, run_over(values, where), run_over(spoilt, where))


def test_of_nothing_the_mean_is_0_and_the_variance_1_and_it_adds_nothing():
    nothing = measure(jnp.full((4, 2), jnp.nan), jnp.zeros(4, bool))
    jax.tree.map(np.testing.assert_array_equal, nothing, no_statistics((2,)))
    assert (nothing.mean.value == 0).all() and (nothing.variance == 1).all()
    seen = measure(jnp.array([[1.0, 2.0], [3.0, 7.0]]), jnp.ones(2, bool))
    for merged in (merge_statistics(seen, nothing), merge_statistics(nothing, seen)):
        jax.tree.map(np.testing.assert_array_equal, merged, seen)


def test_arrays_of_any_shape_are_counted_element_by_element():
    images = np.random.default_rng(0).normal(size=(3, 5, 4, 2, 2)).astype(np.float32)
    where = np.arange(5) < np.array([5, 2, 0])[:, None]
    seen = measure(images, where)
    np.testing.assert_allclose(seen.mean.value, images[where].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.variance, images[where].var(0), rtol=1e-5)


def test_members_that_are_vmapped_have_what_each_has_alone():
    values, where = batches_of(10.0, 2, rows=40)
    together = jax.jit(jax.vmap(measure_statistics))(values, where)
    for member in range(2):
        alone, among = measure(values[member], where[member]), jax.tree.map(itemgetter(member), together)
        for name in ("count", "mean", "squares"):
            np.testing.assert_allclose(exact(getattr(among, name)), exact(getattr(alone, name)), rtol=1e-6)


def test_devices_that_share_the_trajectories_come_to_what_one_has():
    values, where = batches_of(1e4, 8, rows=16)
    mesh = jax.make_mesh((8,), ("trajectories",), (jax.sharding.AxisType.Auto,), devices=some_devices(8))
    shares = NamedSharding(mesh, PartitionSpec("trajectories"))
    spread = measure(*jax.device_put((values, where), shares))
    alone = measure(values, where)
    assert spread.count.value == alone.count.value
    np.testing.assert_allclose(spread.mean.value, alone.mean.value, rtol=1e-7)
    np.testing.assert_allclose(spread.variance, alone.variance, rtol=1e-5)

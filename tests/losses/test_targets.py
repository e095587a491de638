"""The target of HAEPO's loss and its temperature: values, limits, invariance, masks, gradients, devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads

from haepo_jax import TARGETS, effective_sample_size, target_log_weights, target_temperature

PROPERTY = settings(deadline=None, max_examples=30, derandomize=True, database=None)
WHOLE = arrays(np.float32, 6, elements=st.integers(-50, 50).map(float))
SMALL = arrays(np.float32, 6, elements=st.floats(-3, 3, width=32))
MASK = arrays(bool, 6)
KIND = st.sampled_from(TARGETS)
EPSILON = float(np.finfo(np.float32).eps)


@pytest.fixture(params=TARGETS)
def kind(request):
    return request.param


def found(returns, share, where, kind="boltzmann"):
    """Temperature, target and how many trajectories the target is worth, at a share. Compiled once for up to six."""
    number = np.shape(returns)[-1]
    if np.ndim(returns) > 1:
        return _found(returns, share, where, kind=kind)
    padding = 6 - number
    padded = np.pad(returns, (0, padding), constant_values=np.nan)
    temperature, target, size = _found(padded, share, np.pad(where, (0, padding)), kind=kind)
    return temperature, target[:number], size


@partial(jax.jit, static_argnames="kind")
def _found(returns, share, where, *, kind):
    temperature = target_temperature(returns, kind=kind, effective_sample_size=share, where=where)
    target = target_log_weights(returns, kind=kind, effective_sample_size=share, where=where)
    return temperature, target, effective_sample_size(target)


@partial(jax.jit, static_argnames="kind")
def at_temperature(returns, reference, temperature, where, kind="boltzmann"):
    return target_log_weights(returns, reference, kind=kind, temperature=temperature, where=where)


def _softmax(scores):
    weights = np.exp(scores, dtype=np.float64)
    return weights / weights.sum()


def everything(array):
    return np.ones(np.shape(array), bool)


class TestTemperature:
    @pytest.mark.parametrize("share", [0.35, 0.5, 0.95])
    def test_is_the_root_that_scipy_finds(self, reference, make_batch, kind, share):
        returns, where = np.random.default_rng(3).normal(size=(2, 3, 12)), make_batch((2, 3, 12)).where
        temperature, _, size = found(returns, share, where, kind)
        expected = reference.target_temperature(returns, share, where, kind)
        np.testing.assert_allclose(temperature, expected, rtol=2e-5)
        np.testing.assert_allclose(size, share * where.sum(-1), rtol=1e-5)

    def test_is_the_root_that_scipy_finds_in_double_precision(self, x64, reference, kind):
        returns = np.random.default_rng(4).normal(size=(3, 12))
        expected = reference.target_temperature(returns, 0.5, kind=kind)
        temperature, _, size = found(returns, 0.5, everything(returns), kind)
        np.testing.assert_allclose(temperature, expected, rtol=1e-12)
        np.testing.assert_allclose(size, [6, 6, 6], rtol=1e-12)

    @PROPERTY
    @given(KIND, WHOLE, MASK, st.integers(-12, 12), st.integers(-100, 100))
    def test_scales_with_the_returns_and_a_constant_changes_nothing(self, kind, returns, where, power, constant):
        before, target, size = found(returns, 0.4, where, kind)
        after, moved, moved_size = found((returns + constant) * np.float32(2.0**power), 0.4, where, kind)
        np.testing.assert_array_equal(after, before * 2.0**power)
        np.testing.assert_array_equal(moved, target)
        assert size == moved_size

    @PROPERTY
    @given(KIND, WHOLE, MASK, st.permutations(range(6)))
    def test_of_permuted_trajectories_is_the_same(self, kind, returns, where, order):
        order = np.array(order)
        before, target, _ = found(returns, 0.4, where, kind)
        after, permuted, _ = found(returns[order], 0.4, where[order], kind)
        np.testing.assert_allclose(after, before, rtol=1e-5)
        np.testing.assert_allclose(np.exp(permuted), np.exp(target)[order], atol=1e-5)

    @PROPERTY
    @given(KIND, WHOLE, MASK, st.floats(0.05, 0.95))
    def test_gives_the_share_or_the_ties_for_the_best(self, kind, returns, where, share):
        temperature, target, size = found(returns, share, where, kind)
        assert np.isfinite(temperature) and not np.isnan(target).any() and np.isneginf(target[~where]).all()
        assert kind == "linear" or np.isfinite(target[where]).all()
        kept = returns[where]
        wanted = max(share * kept.size, (kept == kept.max()).sum()) if kept.size else 0
        np.testing.assert_allclose(size, wanted, rtol=1e-4)
        for value in np.unique(kept):
            assert np.unique(target[where & (returns == value)]).size == 1  # ties are equal to the last bit

    def test_with_more_ties_than_the_share_is_the_smallest_there_is(self, kind):
        returns = np.array([3, 1, 3, 1, 3, 1], np.float32)
        temperature, target, _ = found(returns, 0.4, everything(returns), kind)
        np.testing.assert_allclose(temperature, 2 * EPSILON * {"boltzmann": 1, "linear": 3 / 6}[kind], rtol=1e-5)
        np.testing.assert_allclose(np.exp(target), (returns == 3) / 3, rtol=1e-6)

    @pytest.mark.parametrize("where", [[1, 1, 1], [0, 1, 0], [0, 0, 0]], ids=["equal", "one", "none"])
    def test_of_a_group_without_spread_is_zero_and_its_target_is_even(self, kind, where):
        where = np.array(where, bool)
        temperature, target, size = found(np.full(3, 0.1, np.float32), 0.4, where, kind)
        assert temperature == 0
        np.testing.assert_allclose(np.exp(target), where / max(where.sum(), 1), rtol=1e-6)
        np.testing.assert_allclose(size, where.sum(), rtol=1e-6)

    def test_of_returns_whose_spread_is_extreme_stays_finite(self, kind):
        for scale in (1e-30, 1e30):
            returns = np.float32(scale) * np.array([0, 1, 2, 5], np.float32)
            temperature, target, size = found(returns, 0.5, everything(returns), kind)
            # The baseline c of the linear kind solves (8 - 3c)^2 = 2 (30 - 16c + 3c^2), and b is (8 - 3c) / 4.
            expected = {"boltzmann": 2.0815, "linear": np.sqrt(13) / 2}[kind]
            np.testing.assert_allclose(temperature / scale, expected, rtol=1e-4)
            np.testing.assert_allclose(size, 2, rtol=1e-5)
            assert not np.isnan(target).any()

    def test_of_returns_further_apart_than_a_number_can_be_is_that_of_smaller_ones(self, kind):
        returns = np.array([-3, 0, 1, 3], np.float32)
        expected = found(returns, 0.5, everything(returns), kind)
        got = found(np.float32(1e38) * returns, 0.5, everything(returns), kind)
        np.testing.assert_allclose(got[0] / np.float32(1e38), expected[0], rtol=1e-5)
        np.testing.assert_allclose(np.exp(got[1]), np.exp(expected[1]), rtol=1e-4, atol=1e-6)

    def test_at_a_traced_share_beyond_its_range_is_a_bound_and_at_nan_is_nan(self, kind):
        returns = np.array([0, 1, 2, 5], np.float32)
        shares = np.array([-1.0, 0.0, 1.0, 2.0, np.nan], np.float32)
        got = [found(returns, float(share), everything(returns), kind)[0] for share in shares]
        least = EPSILON * {"boltzmann": 1, "linear": 1 / 4}[kind]
        bounds = 5 * np.array([least, least, EPSILON**-0.5, EPSILON**-0.5, np.nan])
        # Near the upper bound sums of float32 cannot say how even the weights of a line are.
        np.testing.assert_allclose(got, bounds, rtol={"boltzmann": 1e-3, "linear": 0.1}[kind])

    def test_is_a_constant_to_the_gradient(self, kind):
        def total(returns, share):
            return target_temperature(returns, kind=kind, effective_sample_size=share).sum()

        slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.array([0.0, 1.0, 3.0]), 0.5)
        assert all(not np.asarray(slope).any() for slope in slopes)

    def test_further_shares_do_not_compile_again(self):
        traces = []

        @jax.jit
        def temperature(returns, share):
            traces.append(share)
            return target_temperature(returns, effective_sample_size=share)

        assert len({float(temperature(jnp.arange(4.0), share)) for share in (0.3, 0.5, 0.7)}) == 3
        assert len(traces) == 1


class TestTarget:
    @pytest.mark.parametrize("temperature", [0.3, np.array([0.1, 1.0, 7.0])], ids=["scalar", "of_each_group"])
    def test_matches_the_reference_at_a_temperature(self, reference, make_batch, kind, temperature):
        batch = make_batch((3, 6), garbage=np.nan)
        got = at_temperature(batch.returns, batch.scores, temperature, batch.where, kind)
        expected = reference.target_log_weights(batch.returns, batch.scores, temperature, batch.where, kind)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

    def test_matches_the_reference_over_even_weights_in_double_precision(self, x64, reference, make_batch, kind):
        batch = make_batch((3, 6), garbage=np.nan)
        got = target_log_weights(jnp.asarray(batch.returns), kind=kind, temperature=0.3, where=batch.where)
        expected = reference.target_log_weights(batch.returns, np.zeros((3, 6)), 0.3, batch.where, kind)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-9])
    def test_at_a_temperature_of_next_to_nothing_is_the_limit(self, kind, temperature):
        returns = np.array([1, 2, 2, 2], np.float32)
        reference = np.array([np.log(0.7), np.log(0.1), np.log(0.2), -np.inf], np.float32)
        got = at_temperature(returns, reference, temperature, everything(returns), kind)
        np.testing.assert_allclose(np.exp(got), [0, 1 / 3, 2 / 3, 0], rtol=1e-5)

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    @pytest.mark.parametrize("temperature", [2e4, 1e8, 1e30, np.inf])
    def test_at_a_temperature_far_above_the_spread_is_the_reference(self, kind, temperature, scale):
        returns = np.float32(scale) * np.array([1, 2, 0, 1.5], np.float32)
        reference = np.log(np.array([0.7, 0.1, 0.1, 0.1], np.float32))
        temperature = np.float32(min(scale * temperature, 3e38) if np.isfinite(temperature) else temperature)
        got = at_temperature(returns, reference, temperature, everything(returns), kind)
        tolerance = max(1e-5, float(scale / temperature))
        np.testing.assert_allclose(np.exp(got), [0.7, 0.1, 0.1, 0.1], rtol=2 * tolerance)

    def test_at_a_temperature_of_nan_is_nan(self, kind):
        got = at_temperature(
            np.arange(3.0, dtype=np.float32), np.zeros(3, np.float32), np.nan, everything([1] * 3), kind
        )
        assert np.isnan(got).all()

    @PROPERTY
    @given(WHOLE, SMALL, st.floats(0.1, 100), st.lists(SMALL, min_size=3, max_size=3))
    def test_the_linear_kind_maximises_the_mean_return_less_half_b_chi_squared(self, returns, reference, b, others):
        prior = _softmax(reference)
        got = np.exp(at_temperature(returns, reference, b, everything(returns), "linear"), dtype=np.float64)
        np.testing.assert_allclose(got.sum(), 1, rtol=1e-5)

        def gain(weights):
            return (weights * returns).sum() - b / 2 * ((weights - prior) ** 2 / prior).sum()

        for other in (prior, *map(_softmax, others)):
            for share in (1.0, 1e-2):
                assert gain(got) >= gain((1 - share) * got + share * other) - 1e-4 * (b + np.ptp(returns))

    def test_of_equal_returns_is_the_reference(self, kind):
        reference = np.log(np.array([0.7, 0.1, 0.1, 0.1], np.float32))
        got = at_temperature(np.ones(4, np.float32), reference, 0.3, np.ones(4, bool), kind)
        np.testing.assert_allclose(np.exp(got), [0.7, 0.1, 0.1, 0.1], rtol=1e-5)

    def test_of_the_linear_kind_finds_a_small_share_of_many(self):
        returns = np.linspace(0, 1, 4096, dtype=np.float32)
        _, target, size = found(returns[None], 0.01, everything(returns[None]), "linear")
        np.testing.assert_allclose(size, 40.96, rtol=1e-3)
        assert np.isfinite(target[0, -50:]).all() and np.isneginf(target[0, :-60]).all()
        one_ahead = np.where(np.arange(4096) == 7, np.float32(1e3), returns)
        _, target, _ = found(one_ahead[None], 1e-4, everything(returns[None]), "linear")
        assert np.flatnonzero(np.isfinite(target[0])).tolist() == [7]

    def test_what_is_absent_from_the_reference_has_no_weight(self, kind):
        returns, reference = np.array([9, 1, 2, 5], np.float32), np.array([-np.inf, 0, 0, -np.inf], np.float32)
        got = at_temperature(returns, reference, 1.0, everything(returns), kind)
        better = {"boltzmann": np.e / (1 + np.e), "linear": 3 / 4}[kind]
        np.testing.assert_allclose(np.exp(got), [0, 1 - better, better, 0], rtol=1e-5)

    def test_a_return_of_minus_infinity_counts_as_masked(self, kind):
        returns = np.array([1, -np.inf, 4, 2, 7], np.float32)
        spoilt, dropped = (found(returns, 0.5, where, kind) for where in (everything(returns), np.isfinite(returns)))
        jax.tree.map(np.testing.assert_array_equal, spoilt, dropped)

    @pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
    def test_masked_garbage_does_not_matter(self, make_batch, kind, garbage):
        clean, spoilt = make_batch((3, 6)), make_batch((3, 6), garbage=garbage)
        expected = found(clean.returns, 0.5, clean.where, kind)
        jax.tree.map(np.testing.assert_array_equal, found(spoilt.returns, 0.5, clean.where, kind), expected)

    def test_a_gradient_flows_to_a_temperature_that_is_given_and_to_nothing_else(self, x64, kind):
        returns, reference = jnp.array([0.0, 1.0, 3.0]), jnp.array([0.2, 0.0, -1.0])

        @jax.jit
        def second(returns, reference, temperature):
            return target_log_weights(returns, reference, kind=kind, temperature=temperature)[1]

        check_grads(partial(second, returns, reference), (0.7,), order=1, modes=["fwd", "rev"])
        *rest, slope = jax.jit(jax.grad(second, argnums=(0, 1, 2)))(returns, reference, 0.7)
        assert slope != 0 and not np.asarray(rest).any()

    def test_the_slopes_of_the_linear_kind_by_the_temperature_are_the_closed_form(self, x64):
        returns, prior, b = jnp.array([0.0, 1.0, 3.0, 2.9]), jnp.array([0.4, 0.3, 0.2, 0.1]), 0.2

        @jax.jit
        def weights(temperature):
            return jnp.exp(target_log_weights(returns, jnp.log(prior), kind="linear", temperature=temperature))

        counted = np.asarray(weights(b)) > 0
        assert counted.tolist() == [False, False, True, True]
        expected = (prior * counted / (prior * counted).sum() - weights(b)) / b
        np.testing.assert_allclose(jax.jacrev(weights)(b), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e30])
    def test_the_gradient_at_an_extreme_temperature_is_finite(self, kind, temperature):
        def weight(temperature):
            weights = jnp.exp(target_log_weights(jnp.array([0.0, 1.0, 3.0]), kind=kind, temperature=temperature))
            return jnp.sum(weights * jnp.arange(3.0))

        assert np.isfinite(jax.jit(jax.grad(weight))(temperature))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
    def test_narrow_input_gives_float32(self, kind, dtype):
        returns = jax.ShapeDtypeStruct((4,), dtype)
        for function in (target_log_weights, target_temperature):
            call = partial(function, kind=kind, effective_sample_size=0.5)
            assert jax.eval_shape(call, returns).dtype == jnp.float32


class TestDevices:
    """Three groups of 16 of which the second is all masked, as is everything that device 1 of 8 would hold."""

    @staticmethod
    def batch():
        where = np.random.default_rng(1).random((3, 16)) < 0.8
        where[1], where[:, 2:4] = False, False
        returns = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)
        return np.where(where, returns, np.nan), where

    @staticmethod
    def of_a_part(returns, where, axis_name, kind):
        options = {"kind": kind, "effective_sample_size": 0.5, "where": where, "axis_name": axis_name}
        return target_temperature(returns, **options), target_log_weights(returns, **options)

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_shard_map_over_trajectories_equals_one_device(self, kind, check_vma):
        over = PartitionSpec(None, "m")
        local = jax.shard_map(
            partial(self.of_a_part, axis_name="m", kind=kind),
            mesh=Mesh(np.array(some_devices(8)), ("m",)),
            in_specs=(over, over),
            out_specs=(PartitionSpec(), over),
            check_vma=check_vma,
        )
        returns, where = self.batch()
        got, expected = jax.jit(local)(returns, where), found(returns, 0.5, where, kind)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, expected[:2])

    def test_shard_map_over_groups_equals_one_device(self, kind):
        returns, over = np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32), PartitionSpec("groups")
        mesh = Mesh(np.array(some_devices(8)), ("groups",))
        local = jax.shard_map(
            partial(self.of_a_part, axis_name=None, kind=kind), mesh=mesh, in_specs=(over, over), out_specs=over
        )
        got, expected = jax.jit(local)(returns, everything(returns)), found(returns, 0.5, everything(returns), kind)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, expected[:2])

    def test_vmap_over_groups_equals_one_batch(self, kind):
        returns, where = self.batch()
        got = jax.jit(jax.vmap(partial(self.of_a_part, axis_name=None, kind=kind)))(returns, where)
        expected = found(returns, 0.5, where, kind)[:2]
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, expected)


class TestErrors:
    @pytest.mark.parametrize(("given", "word"), [({}, "neither"), ({"temperature": 1.0}, "both")])
    def test_neither_and_both_ways_to_a_temperature_are_refused(self, given, word):
        share = 0.5 if given else None
        with pytest.raises(ValueError, match=f"one of effective_sample_size and temperature; {word} was given"):
            target_log_weights(jnp.zeros(3), effective_sample_size=share, **given)

    @pytest.mark.parametrize("share", [0, 1, -0.5, 16, float("nan")])
    def test_a_share_that_is_not_between_0_and_1_is_refused(self, share):
        sentence = "effective_sample_size must be between 0 and 1, a share of the valid trajectories, got"
        for function in (target_log_weights, target_temperature):
            with pytest.raises(ValueError, match=sentence):
                function(jnp.zeros(3), effective_sample_size=share)

    @pytest.mark.parametrize("temperature", [jnp.ones(3), jnp.ones((2, 1))])
    def test_a_temperature_of_another_shape_than_the_groups_is_refused(self, temperature):
        with pytest.raises(ValueError, match=r"one number a group, of shape \(2,\), got an array of shape"):
            target_log_weights(jnp.zeros((2, 3)), temperature=temperature)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, jnp.array([1.0, -1.0])])
    def test_a_temperature_that_is_not_positive_is_refused(self, temperature):
        with pytest.raises(ValueError, match="temperature must"):
            target_log_weights(jnp.zeros((2, 3)), temperature=temperature)

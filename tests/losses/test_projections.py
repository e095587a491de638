"""`haepo_loss` and `haepo_coefficients` as projections of the weights on a target, and how groups are reduced."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import Mesh, PartitionSpec

from haepo_jax import (
    PROJECTIONS,
    HaepoMetrics,
    haepo_coefficients,
    haepo_loss,
    mean_over_groups,
    normalize_returns,
    plackett_luce_log_weights,
    weights_entropy,
    weights_kl,
)

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True, database=None)
SMALL = arrays(np.float32, 6, elements=st.floats(-20, 20, width=32))
WHOLE = arrays(np.float32, 6, elements=st.integers(-20, 20).map(float))
MASK = arrays(bool, 6)
COEFFICIENTS = {"entropy_coef": 0.3, "kl_coef": 0.2}
SHARES = [None, 0.5]
LINEAR = "forward", "linear"

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6))


class Result(NamedTuple):
    losses: jax.Array
    metrics: HaepoMetrics
    gradient: jax.Array
    """Of the sum of the losses."""
    of_settings: tuple[jax.Array, jax.Array]
    """By the entropy's and the KL's coefficient."""
    coefficients: jax.Array


@partial(jax.jit, static_argnames=("projection", "has_target", "target"))
def _evaluate(
    scores, returns, reference_scores, where, share, entropy_coef, kl_coef, projection, has_target, target="boltzmann"
):
    def options(entropy_coef, kl_coef):
        return {
            "entropy_coef": entropy_coef,
            "kl_coef": kl_coef,
            "temperature": 0.7,
            "projection": projection,
            "target": target,
            "target_effective_sample_size": share if has_target else None,
            "reduce_fn": None,
            "where": where,
        }

    def total(scores, *coefs):
        losses, metrics = haepo_loss(scores, returns, reference_scores, **options(*coefs))
        return losses.sum(), (losses, metrics)

    coefs = entropy_coef, kl_coef
    (_, (losses, metrics)), slopes = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(scores, *coefs)
    coefficients = haepo_coefficients(scores, returns, reference_scores, **options(*coefs))
    return Result(losses, metrics, slopes[0], slopes[1:], coefficients)


def evaluate(arrays, where, *, projection, share=None, entropy_coef=0.3, kl_coef=0.2, target="boltzmann"):
    """Each group's own loss, metrics, gradient and coefficients; share and coefficients are traced.

    A lone group of up to six is one of six groups, of which the others are all masked: all share one program.
    """
    given = 0.0 if share is None else share
    options = {"projection": projection, "has_target": share is not None, "target": target}
    size, lone = np.size(where), np.ndim(where) == 1
    if lone:
        arrays, where = [_in_a_batch(array, 0.0) for array in arrays[:3]], _in_a_batch(where, False)
    got = _evaluate(*arrays[:3], where, given, entropy_coef, kl_coef, **options)
    if not lone:
        return got
    first = jax.tree.map(lambda x: x[0, 0, :size] if x.ndim == 3 else x[0, 0], got._replace(of_settings=()))
    return first._replace(of_settings=got.of_settings)


def _in_a_batch(group, filling):
    batch = np.full((2, 3, 6), filling, jnp.asarray(group).dtype)
    batch[0, 0, : len(group)] = group
    return batch


@pytest.fixture(params=PROJECTIONS)
def projection(request):
    return request.param


@pytest.fixture(params=SHARES, ids=["coefficients", "share"])
def share(request):
    return request.param


class TestValue:
    @pytest.mark.parametrize("coefficients", [(0.3, 0.2), (0.0, 0.4), (0.4, 0.0)])
    def test_matches_the_reference(self, reference, make_batch, projection, share, coefficients):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        entropy_coef, kl_coef = coefficients
        options = {"entropy_coef": entropy_coef, "kl_coef": kl_coef, "projection": projection, "share": share}
        got = evaluate(batch, batch.where, **options)
        expected = reference.projected(*batch[:3], temperature=0.7, where=batch.where, **options)
        np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.coefficients, expected.slopes, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.gradient, expected.slopes, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.metrics.target_temperature, expected.b, rtol=1e-4)
        sizes = reference.effective_sample_size(expected.target)
        np.testing.assert_allclose(got.metrics.target_effective_sample_size, sizes, rtol=1e-4)

    def test_reverse_is_the_temperature_times_the_divergence_and_a_constant(self, make_batch, share):
        one, other = make_batch((2, 3, 6)), make_batch((2, 3, 6), seed=1)
        constants = []
        for scores in (one.scores, other.scores):
            got = evaluate((scores, *one[1:3]), one.where, projection="reverse", share=share)
            constants.append(got.losses - got.metrics.target_temperature * got.metrics.target_kl)
        np.testing.assert_allclose(*constants, rtol=1e-4, atol=1e-5)

    def test_forward_is_the_divergence_and_the_entropy_of_the_target(self, make_batch, share):
        one, other = make_batch((2, 3, 6)), make_batch((2, 3, 6), seed=1)
        entropies = []
        for scores in (one.scores, other.scores):
            got = evaluate((scores, *one[1:3]), one.where, projection="forward", share=share)
            entropies.append(got.losses - got.metrics.target_kl)
        np.testing.assert_allclose(*entropies, rtol=1e-4, atol=1e-5)
        assert (np.asarray(entropies) > -1e-5).all()

    def test_reverse_without_a_target_is_the_formula_to_the_last_bit(self, make_batch):
        batch = make_batch((2, 3, 6))

        def formula(scores):
            normalized = normalize_returns(batch.returns, where=batch.where)
            log_weights = plackett_luce_log_weights(scores, temperature=0.7, where=batch.where)
            reference = plackett_luce_log_weights(batch.reference_scores, temperature=0.7, where=batch.where)
            policy_loss = -jnp.sum(jnp.exp(log_weights) * normalized, axis=-1)
            losses = policy_loss - 0.3 * weights_entropy(log_weights) + 0.2 * weights_kl(log_weights, reference)
            return jnp.sum(losses) / 6

        def loss(scores):
            options = {"temperature": 0.7, "where": batch.where, **COEFFICIENTS}
            return haepo_loss(scores, batch.returns, batch.reference_scores, **options)[0]

        got, expected = (jax.jit(jax.value_and_grad(function))(batch.scores) for function in (loss, formula))
        jax.tree.map(np.testing.assert_array_equal, got, expected)

    def test_metrics_that_nobody_reads_are_not_computed(self, make_batch, share):
        scores, returns, reference_scores, _ = make_batch((2, 6))

        def both(scores):
            return haepo_loss(scores, returns, reference_scores, target_effective_sample_size=share, **COEFFICIENTS)

        counts = []
        for function in (lambda scores: both(scores)[0], both):
            text = jax.jit(function).lower(scores).compile().as_text()
            assert text.count(" while(") == (share is not None)
            counts.append(text.count(" exponential("))
        assert counts[0] < counts[1]

    def test_with_both_coefficients_zero_all_of_a_target_goes_to_the_entropy(self, make_batch, projection):
        batch = make_batch((2, 3, 6))
        options = {"projection": projection, "share": 0.5}
        none = evaluate(batch, batch.where, entropy_coef=0.0, kl_coef=0.0, **options)
        entropy = evaluate(batch, batch.where, entropy_coef=0.7, kl_coef=0.0, **options)
        close(none._replace(of_settings=0), entropy._replace(of_settings=0))

    def test_only_the_ratio_of_the_coefficients_counts_with_a_target(self, make_batch, projection):
        batch = make_batch((2, 3, 6))
        options = {"projection": projection, "share": 0.5}
        one = evaluate(batch, batch.where, entropy_coef=0.3, kl_coef=0.2, **options)
        tenfold = evaluate(batch, batch.where, entropy_coef=3.0, kl_coef=2.0, **options)
        close(one._replace(of_settings=0), tenfold._replace(of_settings=0))

    @PROPERTY
    @given(SMALL, WHOLE, SMALL, MASK, st.sampled_from(PROJECTIONS), st.sampled_from(SHARES))
    def test_everything_is_finite_and_the_coefficients_are_the_gradient(
        self, scores, returns, reference_scores, where, projection, share
    ):
        got = evaluate((scores, returns, reference_scores), where, projection=projection, share=share)
        rest = got._replace(metrics=got.metrics._replace(log_weights=0))
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(rest))
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-4, atol=3e-5)
        np.testing.assert_allclose(np.asarray(got.coefficients, np.float64).sum(), 0, atol=3e-5)
        assert not np.asarray(got.coefficients)[~where].any()

    @PROPERTY
    @given(SMALL, WHOLE, st.integers(-6, 6), st.integers(-50, 50), st.sampled_from(PROJECTIONS))
    def test_of_returns_in_another_unit_is_the_same(self, scores, returns, power, constant, projection):
        where = np.ones(6, bool)
        before = evaluate((scores, returns, scores / 2), where, projection=projection, share=0.4)
        moved = (returns + constant) * np.float32(2.0**power)
        after = evaluate((scores, moved, scores / 2), where, projection=projection, share=0.4)
        np.testing.assert_allclose(after.coefficients, before.coefficients, rtol=1e-3, atol=1e-4)


class TestSaturation:
    SCORES = jnp.array([0.0, -200.0, -300.0, -1e5])
    RETURNS = jnp.array([0.0, 1.0, 2.0, 3.0])

    def test_the_forward_slope_lives_where_the_reverse_one_is_dead(self, share):
        arrays = self.SCORES, self.RETURNS, self.SCORES
        slopes = {}
        for name in PROJECTIONS:
            got = evaluate(arrays, np.ones(4, bool), projection=name, share=share, kl_coef=0.0)
            np.testing.assert_allclose(got.coefficients, got.gradient, atol=1e-6)
            slopes[name] = np.abs(got.gradient).max()
        assert slopes["reverse"] < 1e-6
        assert slopes["forward"] > 0.1 / 0.7

    def test_the_forward_slope_is_weights_less_target_over_the_temperature(self):
        options = {"normalization": "none", "projection": "forward", "entropy_coef": 1.0, "kl_coef": 0}
        call = jax.jit(partial(haepo_coefficients, temperature=2.0, **options))
        got = call(2 * jnp.log(jnp.array([1.0, 3.0])), jnp.log(jnp.array([0.6, 0.4])))
        np.testing.assert_allclose(got, [(0.25 - 0.6) / 2, (0.75 - 0.4) / 2], rtol=1e-5)

    def test_a_score_of_minus_infinity_takes_no_part_in_the_target(self, projection, share):
        spoilt = (jnp.array([0.0, -jnp.inf, 1.0, 2.0]), self.RETURNS, jnp.zeros(4))
        got = evaluate(spoilt, np.ones(4, bool), projection=projection, share=share)
        assert np.isfinite(got.losses) and np.isfinite(got.gradient).all()
        assert got.gradient[1] == got.coefficients[1] == 0
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-5, atol=1e-6)

    def test_traced_coefficients_of_zero_give_the_best_return_all_of_the_forward_target(self):
        arrays = jnp.zeros(4), jnp.array([0.0, 3.0, 3.0, 1.0]), jnp.zeros(4)
        got = evaluate(arrays, np.ones(4, bool), projection="forward", entropy_coef=0.0, kl_coef=0.0)
        np.testing.assert_allclose(got.coefficients, (0.25 - np.array([0, 0.5, 0.5, 0])) / 0.7, atol=1e-6)
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(got._replace(metrics=0)))

    def test_equal_returns_have_no_reverse_slope_and_a_forward_one_to_even_weights(self):
        arrays = jnp.array([0.0, 1.0, -1.0]), jnp.ones(3), jnp.array([0.0, -jnp.inf, 0.0])
        where = np.ones(3, bool)
        reverse = evaluate(arrays, where, projection="reverse", share=0.5)
        assert reverse.losses == 0 and not np.asarray(reverse.gradient).any()
        forward = evaluate(arrays, where, projection="forward", share=0.5, kl_coef=0.0)
        weights = np.exp(forward.metrics.log_weights)
        np.testing.assert_allclose(forward.coefficients, (weights - 1 / 3) / 0.7, atol=1e-6)

    @pytest.mark.parametrize("garbage", [-np.inf, np.inf, np.nan])
    def test_a_traced_kl_coef_of_zero_makes_an_infinite_reference_add_nothing(self, projection, share, garbage):
        scores, spoilt = jnp.array([0.0, 1.0, -1.0, 0.5]), jnp.array([0.0, garbage, 0.0, 1.0])
        got = evaluate(
            (scores, self.RETURNS, spoilt), np.ones(4, bool), projection=projection, share=share, kl_coef=0.0
        )
        clean = evaluate(
            (scores, self.RETURNS, scores), np.ones(4, bool), projection=projection, share=share, kl_coef=0.0
        )
        for name in ("losses", "gradient", "coefficients"):
            np.testing.assert_allclose(getattr(got, name), getattr(clean, name), rtol=1e-6, atol=1e-7)


class TestLinearTarget:
    OPTIONS = {"projection": "forward", "target": "linear"}  # noqa: RUF012

    def test_loss_coefficients_and_gradient_match_the_reference(self, x64, reference, make_batch, share):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        got = evaluate(batch, batch.where, share=share, **self.OPTIONS)
        options = {"share": share, **self.OPTIONS, **COEFFICIENTS}
        expected = reference.projected(*batch[:3], temperature=0.7, where=batch.where, **options)
        np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.coefficients, expected.slopes, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(got.gradient, expected.slopes, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(got.metrics.target_temperature, expected.b, rtol=1e-9)
        sizes = reference.effective_sample_size(expected.target)
        np.testing.assert_allclose(got.metrics.target_effective_sample_size, sizes, rtol=1e-8)

    @PROPERTY
    @given(SMALL, WHOLE, SMALL, MASK, st.sampled_from(SHARES), st.sampled_from([0.0, 0.2]))
    def test_everything_is_finite_and_the_coefficients_are_the_gradient(
        self, scores, returns, reference_scores, where, share, kl_coef
    ):
        arrays = scores, returns, reference_scores
        got = evaluate(arrays, where, share=share, entropy_coef=kl_coef, kl_coef=kl_coef, **self.OPTIONS)
        rest = got._replace(metrics=got.metrics._replace(log_weights=0))
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(rest))
        np.testing.assert_allclose(got.coefficients, got.gradient, rtol=1e-4, atol=3e-5)
        np.testing.assert_allclose(np.asarray(got.coefficients, np.float64).sum(), 0, atol=3e-5)
        assert not np.asarray(got.coefficients)[~where].any()

    def test_a_trajectory_below_the_baseline_is_pushed_down_by_all_of_its_weight(self):
        arrays = jnp.array([0.0, 1.0, -1.0, 0.5]), jnp.array([0.0, 1.0, 2.0, 8.0]), jnp.zeros(4)
        got = evaluate(arrays, np.ones(4, bool), share=0.3, kl_coef=0.0, **self.OPTIONS)
        weights = np.exp(got.metrics.log_weights)
        np.testing.assert_allclose(got.coefficients[:2], weights[:2] / 0.7, rtol=1e-5)
        assert got.coefficients[3] < 0 < got.metrics.target_kl < np.inf

    def test_the_slopes_by_the_coefficients_are_differences_of_the_loss(self, x64, make_batch):
        batch = make_batch((2, 3, 6))
        step, slopes = 1e-6, []
        for name in ("entropy_coef", "kl_coef"):
            ends = [{name: COEFFICIENTS[name] + sign * step} for sign in (1, -1)]
            above, below = (evaluate(batch, batch.where, **self.OPTIONS, **end).losses.sum() for end in ends)
            slopes.append((above - below) / (2 * step))
        np.testing.assert_allclose(evaluate(batch, batch.where, **self.OPTIONS).of_settings, slopes, rtol=1e-6)

    def test_vmap_over_members_equals_a_loop(self, make_batch):
        batch, shares = make_batch((2, 3, 6)), np.array([0.3, 0.8], np.float32)
        call = partial(_evaluate, has_target=True, **self.OPTIONS)
        arguments = (*batch[:3], batch.where)
        together = jax.vmap(lambda share: call(*arguments, share, 0.3, 0.2))(shares)
        for member, share in enumerate(shares):
            close(jax.tree.map(lambda value: value[member], together), call(*arguments, float(share), 0.3, 0.2))  # noqa: B023

    @pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
    def test_under_the_reverse_projection_is_refused(self, function):
        x = jnp.arange(3.0)
        with pytest.raises(ValueError, match=r"^target 'linear' goes with projection 'forward': the reverse one is"):
            function(x, x, x, target="linear", **COEFFICIENTS)


class TestRisk:
    @staticmethod
    def pull_to_the_risky_arm(target):
        """The mean step of its logit from even odds, over 500 groups of 16 episodes of one choice.

        The safe arm gives 0.5, the risky one 1 with a chance of 0.4 and else 0.
        """
        rng = np.random.default_rng(0)
        risky = rng.random((500, 16)) < 0.5
        returns = np.where(risky, rng.random((500, 16)) < 0.4, 0.5).astype(np.float32)
        options = {"projection": "forward", "target": target, "target_effective_sample_size": 0.7, "kl_coef": 0}
        slopes = jax.jit(partial(haepo_coefficients, entropy_coef=1.0, **options))(np.zeros((500, 16)), returns)
        return -np.sum(np.asarray(slopes) * (risky - 0.5))

    def test_a_boltzmann_target_prefers_the_arm_of_the_luckiest_returns(self):
        assert self.pull_to_the_risky_arm("boltzmann") > 0.02

    def test_a_linear_target_prefers_the_arm_that_is_better_on_average(self):
        assert self.pull_to_the_risky_arm("linear") < -0.02


class TestMasks:
    @pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
    def test_masked_garbage_does_not_matter(self, make_batch, projection, share, garbage):
        clean, spoilt = make_batch((2, 3, 6)), make_batch((2, 3, 6), garbage=garbage)
        expected = evaluate(clean, clean.where, projection=projection, share=share)
        got = evaluate(spoilt, clean.where, projection=projection, share=share)
        jax.tree.map(np.testing.assert_array_equal, got, expected)

    @pytest.mark.parametrize(("projection", "target"), [*((name, "boltzmann") for name in PROJECTIONS), LINEAR])
    def test_an_all_masked_group_has_the_loss_zero_and_no_slope(self, make_batch, projection, target, share):
        batch = make_batch((2, 3, 6))
        batch.where[0, 1] = False
        got = evaluate(batch, batch.where, projection=projection, target=target, share=share)
        names = ("target_temperature", "target_effective_sample_size", "target_kl")
        assert got.losses[0, 1] == 0 and not np.asarray([got.gradient[0, 1], got.coefficients[0, 1]]).any()
        assert [float(getattr(got.metrics, name)[0, 1]) for name in names] == [0, 0, 0]


REDUCE_FNS = {
    "mean_over_groups": mean_over_groups,
    "sum": jnp.sum,
    "mean": jnp.mean,
    "root": lambda losses, where: jnp.sqrt(jnp.sum(jnp.where(where, losses, 0) ** 2)),
}


class TestReduceFn:
    @staticmethod
    @jax.jit
    def evaluate(batch):
        """For each function loss, gradient and coefficients; and the losses of the groups."""
        scores, returns, reference_scores, where = batch

        def both(function, reduce_fn, scores):
            options = {"projection": "forward", "where": where, "reduce_fn": reduce_fn, **COEFFICIENTS}
            return function(scores, returns, reference_scores, **options)

        def of(reduce_fn):
            loss = jax.value_and_grad(lambda scores: both(haepo_loss, reduce_fn, scores)[0])(scores)
            return *loss, both(haepo_coefficients, reduce_fn, scores)

        return {name: of(function) for name, function in REDUCE_FNS.items()}, both(haepo_loss, None, scores)[0]

    @pytest.mark.parametrize("name", REDUCE_FNS)
    def test_reduces_the_losses_of_the_groups_that_have_a_valid_trajectory(self, make_batch, name):
        batch = make_batch((2, 3, 6))
        batch.where[0, 1] = False
        got, losses = self.evaluate(batch)
        loss, gradient, coefficients = got[name]
        assert losses.shape == (2, 3)
        np.testing.assert_allclose(loss, REDUCE_FNS[name](losses, where=batch.where.any(-1)), rtol=1e-6)
        np.testing.assert_allclose(coefficients, gradient, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("name", ["mean_over_groups", "sum", "mean"])
    def test_of_no_valid_group_is_zero(self, make_batch, name):
        batch = make_batch((2, 3, 6))
        batch.where[:] = False
        loss, *slopes = self.evaluate(batch)[0][name]
        assert loss == 0 and not np.asarray(slopes).any()

    @pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
    def test_what_is_no_function_or_returns_no_scalar_is_refused(self, function):
        x = jnp.zeros((2, 3))
        with pytest.raises(TypeError, match=r"reduce_fn must be a function such as jnp.sum, or None, got 'mean'"):
            function(x, x, x, reduce_fn="mean", **COEFFICIENTS)
        with pytest.raises(ValueError, match=r"reduce_fn must return a scalar, got an array of shape \(2,\)"):
            jax.eval_shape(partial(function, reduce_fn=lambda losses, where: losses, **COEFFICIENTS), x, x, x)


class TestDevices:
    PER_TRAJECTORY = ("log_weights", "normalized_returns")

    @pytest.mark.parametrize(("projection", "check_vma"), [("reverse", True), ("forward", False)])
    def test_shard_map_over_trajectories_equals_one_device(self, make_batch, projection, check_vma):
        batch = make_batch((3, 16))
        batch.where[1] = False
        over = PartitionSpec(None, "m")

        def local(*arrays, axis_name=None):
            options = {
                "projection": projection,
                "target_effective_sample_size": 0.5,
                "where": arrays[3],
                "axis_name": axis_name,
                **COEFFICIENTS,
            }
            return *haepo_loss(*arrays[:3], **options), haepo_coefficients(*arrays[:3], **options)

        replicated = PartitionSpec()
        metrics = HaepoMetrics(*(over if name in self.PER_TRAJECTORY else replicated for name in HaepoMetrics._fields))
        spread = jax.shard_map(
            partial(local, axis_name="m"),
            mesh=Mesh(np.array(some_devices(8)), ("m",)),
            in_specs=(over,) * 4,
            out_specs=(replicated, metrics, over),
            check_vma=check_vma,
        )
        arrays = [np.asarray(array, np.float32) for array in batch[:3]]
        close(jax.jit(spread)(*arrays, batch.where), jax.jit(local)(*arrays, batch.where))

    def test_vmap_over_members_equals_a_loop(self, make_batch):
        batch, shares = make_batch((2, 3, 6)), np.array([0.3, 0.5, 0.8], np.float32)
        call = partial(_evaluate, projection="forward", has_target=True)
        arguments = (*batch[:3], batch.where)
        together = jax.vmap(lambda share: call(*arguments, share, 0.3, 0.2))(shares)
        for member, share in enumerate(shares):
            close(jax.tree.map(lambda value: value[member], together), call(*arguments, float(share), 0.3, 0.2))  # noqa: B023


class TestDtypes:
    def test_half_precision_gives_float32(self, projection):
        half = jax.ShapeDtypeStruct((4,), jnp.bfloat16)
        options = {"projection": projection, "target_effective_sample_size": 0.5, **COEFFICIENTS}
        (loss, metrics), coefficients = (
            jax.eval_shape(partial(function, **options), half, half, half)
            for function in (haepo_loss, haepo_coefficients)
        )
        assert {loss.dtype, coefficients.dtype, metrics.target_temperature.dtype} == {jnp.dtype(jnp.float32)}

    def test_double_precision_matches_the_reference(self, x64, reference, make_batch, projection):
        batch = make_batch((2, 3, 6), garbage=np.nan)
        options = {"projection": projection, "share": 0.5, **COEFFICIENTS}
        got = evaluate(batch, batch.where, **options)
        expected = reference.projected(*batch[:3], temperature=0.7, where=batch.where, **options)
        np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got.coefficients, expected.slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("function", [haepo_loss, haepo_coefficients])
class TestErrors:
    X = jnp.array([1.0, 2.0, 3.0])

    def test_the_forward_projection_without_a_target_is_refused(self, function):
        with pytest.raises(
            ValueError, match=r"projection 'forward' needs a target: give target_effective_sample_size"
        ):
            function(self.X, self.X, projection="forward", entropy_coef=0.0, kl_coef=0)

    @pytest.mark.parametrize("name", ["entropy_coef", "kl_coef"])
    @pytest.mark.parametrize("target", [{"projection": "forward"}, {"target_effective_sample_size": 0.5}])
    def test_a_negative_coefficient_has_no_target(self, function, name, target):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 where the loss has a target, got -0.1"):
            function(self.X, self.X, self.X, **(COEFFICIENTS | {name: -0.1}), **target)

    @pytest.mark.parametrize("share", [0.0, 1.0, 8])
    def test_a_share_that_is_not_between_0_and_1_is_refused(self, function, share):
        with pytest.raises(ValueError, match=r"target_effective_sample_size must be between 0 and 1, a share of"):
            function(self.X, self.X, self.X, target_effective_sample_size=share, **COEFFICIENTS)

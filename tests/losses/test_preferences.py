"""Direct Preference Optimisation, and the pairs that returns give: values, gradients, masks, extremes, errors."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from haepo_jax import PAIRS, DpoMetrics, dpo_loss, ipo_loss, preference_pairs, simpo_loss

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(), (6,), (2, 3, 6)]
SETTINGS = {"beta": 0.4, "label_smoothing": 0.1}
NAMES = ("chosen", "rejected", "reference_chosen", "reference_rejected")
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
LARGE = arrays(np.float32, 6, elements=st.floats(-1e4, 1e4, width=32))
FEW = arrays(np.float32, 6, elements=st.integers(0, 3))  # with ties
MASK = arrays(bool, 6)
ORDER = st.permutations(range(6))

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))
pairs_of = jax.jit(preference_pairs, static_argnames="pairs")


def likelihoods(shape, seed=0):
    """Four random arrays and a mask."""
    rng = np.random.default_rng(seed)
    where = np.asarray(rng.random(shape) < 0.7)
    if shape:
        where[..., 0] = True
    return [np.asarray(2 * rng.normal(size=shape)) for _ in range(4)], where


@jax.jit
def _dpo(arrays, where, options):
    """Loss and metrics, and the gradients with respect to chosen and rejected."""

    def loss(chosen, rejected):
        return dpo_loss(chosen, rejected, *arrays[2:], where=where, **options)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(*arrays[:2])


def dpo(*arrays, where=None, **options):
    return _dpo([jnp.asarray(array) for array in arrays], where, SETTINGS | options)


with_numbers = jax.jit(dpo_loss, static_argnames=("beta", "label_smoothing"))
"""Settings are numbers, as where nothing is swept; of one shape, tests share a program."""


class TestDpo:
    def test_by_hand(self):
        # margins (2 - 1) - (0 - 1) = 2 and (0 - 1) - (3 - 1) = -3
        arrays = [[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [1.0, 1.0]]
        (loss, metrics), gradients = dpo(*arrays, beta=0.5, label_smoothing=0.0)
        logits = np.array([1, -1.5])
        np.testing.assert_allclose(loss, np.log(1 + np.exp(-logits)).mean(), rtol=1e-6)
        slope = -0.5 / (1 + np.exp(logits)) / 2
        np.testing.assert_allclose(gradients, [slope, -slope], rtol=1e-6)
        # implicit rewards 1/2 (1 - 1), 1/2 (-1 + 2)
        np.testing.assert_allclose(metrics, DpoMetrics(0.5, -0.5, 0.0, 0.25, 2), rtol=1e-6)

    def test_at_the_reference_is_log_two_and_pushes_the_two_apart(self):
        chosen, rejected = np.array([-3.0, -5.0]), np.array([-2.0, -7.0])
        (loss, metrics), gradients = dpo(chosen, rejected, chosen, rejected, beta=0.5, label_smoothing=0.0)
        np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(gradients, [[-0.125] * 2, [0.125] * 2], rtol=1e-6)
        np.testing.assert_array_equal(metrics, DpoMetrics(0, 0, 0, 0, 2))

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    @pytest.mark.parametrize(("beta", "label_smoothing"), [(0.1, 0.0), (0.4, 0.1), (2.0, 0.49)])
    def test_matches_the_reference(self, reference, shape, garbage, beta, label_smoothing):
        clean, where = likelihoods(shape)
        if garbage is None or not shape:
            where = np.ones(shape, bool)
        spoilt = [np.where(where, array, 0 if garbage is None else garbage) for array in clean]
        options = {"beta": beta, "label_smoothing": label_smoothing, "where": where}
        expected = reference.dpo(*clean, **options)
        loss, metrics = with_numbers(*spoilt, **options)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
        (traced, _), _ = dpo(*spoilt, **options)
        np.testing.assert_allclose(traced, expected.loss, rtol=1e-5)
        for name, got in metrics._asdict().items():
            np.testing.assert_allclose(got, getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name)

    def test_matches_the_reference_in_double_precision(self, reference, x64):
        arrays, where = likelihoods((2, 3, 6))
        (loss, metrics), _ = dpo(*arrays, where=where)
        expected = reference.dpo(*arrays, where=where, **SETTINGS)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-13)
        for name, got in metrics._asdict().items():
            np.testing.assert_allclose(got, getattr(expected, name), rtol=1e-12, err_msg=name)

    def test_no_label_smoothing_is_the_default(self):
        arrays, _ = likelihoods((6,))
        expected, _ = dpo(*arrays, label_smoothing=0.0)
        close(dpo_loss(*arrays, beta=0.4), expected)

    def test_label_smoothing_bounds_the_margin_that_is_sought(self):
        # the derivative in the margin vanishes where sigmoid(beta m) = 1 - s
        margin = np.log(0.9 / 0.1) / 0.4
        gradients = [dpo([m], [0.0], [0.0], [0.0])[1][0][0] for m in (margin - 1, margin, margin + 1)]
        assert gradients[0] < -1e-3 and abs(gradients[1]) < 1e-7 and gradients[2] > 1e-3

    def test_the_loss_falls_along_its_gradient(self):
        arrays, where = likelihoods((6,))
        (loss, metrics), (up, down) = dpo(*arrays, where=where, label_smoothing=0.0)
        (after, moved), _ = dpo(arrays[0] - up, arrays[1] - down, *arrays[2:], where=where, label_smoothing=0.0)
        assert after < loss and moved.margin > metrics.margin

    def test_check_grads(self, x64):
        arrays, where = likelihoods((2, 6))

        def loss(chosen, rejected, beta, label_smoothing):
            options = {"beta": beta, "label_smoothing": label_smoothing, "where": where}
            return dpo_loss(chosen, rejected, *arrays[2:], **options)[0]

        check_grads(jax.jit(loss), (*arrays[:2], 0.4, 0.1), order=1)

    def test_references_are_constants_to_the_gradient(self):
        arrays, _ = likelihoods((6,))
        for gradient in jax.grad(lambda *x: dpo_loss(*x, **SETTINGS)[0], argnums=(2, 3))(*map(jnp.asarray, arrays)):
            np.testing.assert_array_equal(gradient, np.zeros(6))

    @pytest.mark.parametrize("label_smoothing", [0.0, 0.25])
    def test_huge_log_ratios(self, label_smoothing):
        zeros = np.zeros(2)
        (loss, metrics), gradients = dpo(
            np.array([1e4, -1e4]), zeros, zeros, zeros, beta=1.0, label_smoothing=label_smoothing
        )
        np.testing.assert_allclose(loss, (label_smoothing * 1e4 + (1 - label_smoothing) * 1e4) / 2, rtol=1e-6)
        slope = np.array([label_smoothing, label_smoothing - 1]) / 2
        np.testing.assert_allclose(gradients, [slope, -slope], rtol=1e-6, atol=1e-30)
        assert metrics.accuracy == 0.5 and metrics.margin == 0

    def test_an_impossible_completion_gives_no_nan(self):
        zeros = np.zeros(2)
        loss, metrics = dpo_loss(zeros, np.array([-np.inf, 0]), zeros, zeros, beta=0.1)
        np.testing.assert_allclose(loss, np.log(2) / 2, rtol=1e-6)
        gradient = jax.grad(lambda x: dpo_loss(zeros, x, zeros, zeros, beta=0.1)[0])(jnp.array([-np.inf, 0]))
        np.testing.assert_allclose(gradient, [0, 0.025], rtol=1e-6)
        assert metrics.accuracy == 0.5

    @PROPERTY
    @given(LARGE, LARGE, LARGE, LARGE, MASK)
    def test_finite_input_gives_finite_output(self, chosen, rejected, reference_chosen, reference_rejected, where):
        got = dpo(chosen, rejected, reference_chosen, reference_rejected, where=where)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
        assert got[0][0] >= 0 and 0 <= got[0][1].accuracy <= 1
        np.testing.assert_array_equal(got[1][0], -got[1][1])

    @PROPERTY
    @given(LARGE, LARGE, MASK, ORDER)
    def test_permuting_pairs_permutes_the_gradient(self, chosen, rejected, where, order):
        order, zeros = np.array(order), np.zeros(6, np.float32)
        result, (up, down) = dpo(chosen, rejected, zeros, zeros, where=where)
        permuted = dpo(chosen[order], rejected[order], zeros, zeros, where=where[order])
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-2), permuted, (result, (up[order], down[order]))
        )

    def test_every_shape_of_the_same_pairs_gives_the_same(self):
        arrays, where = likelihoods((12,))
        for shape in [(2, 3, 2), (4, 3)]:
            result, gradients = dpo(*(array.reshape(shape) for array in arrays), where=where.reshape(shape))
            flat = result, tuple(gradient.reshape(-1) for gradient in gradients)
            close(flat, dpo(*arrays, where=where))

    def test_swapping_chosen_and_rejected_turns_the_labels_round(self):
        (chosen, rejected, reference_chosen, reference_rejected), _ = likelihoods((6,))
        (loss, metrics), _ = dpo(chosen, rejected, reference_chosen, reference_rejected, label_smoothing=0.0)
        (other, swapped), _ = dpo(rejected, chosen, reference_rejected, reference_chosen, label_smoothing=0.0)
        np.testing.assert_allclose(other - loss, 0.4 * metrics.margin, rtol=1e-5)
        np.testing.assert_allclose(swapped.accuracy, 1 - metrics.accuracy, rtol=1e-6)

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("spoilt", range(4))
    def test_a_masked_pair_equals_a_dropped_one(self, garbage, spoilt):
        arrays, where = likelihoods((12,))
        dropped = dpo(*(array[where] for array in arrays))
        arrays[spoilt] = np.where(where, arrays[spoilt], garbage)
        result, gradients = dpo(*arrays, where=where)
        close((result, tuple(gradient[where] for gradient in gradients)), dropped)
        for gradient in gradients:
            np.testing.assert_array_equal(gradient[~where], 0)

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_garbage_does_not_matter_to_the_gradient_of_settings(self, garbage):
        arrays, where = likelihoods((12,))

        @jax.jit
        def slopes(arrays):
            loss = lambda beta, s: dpo_loss(*arrays, beta=beta, label_smoothing=s, where=where)[0]  # noqa: E731
            return jax.grad(loss, argnums=(0, 1))(0.4, 0.1)

        spoilt = slopes([np.where(where, array, garbage) for array in arrays])
        np.testing.assert_array_equal(spoilt, slopes(arrays))
        assert all(slope != 0 for slope in spoilt)

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, garbage, shape):
        x = jnp.full(shape, garbage, jnp.float32)
        for leaf in jax.tree.leaves(dpo(x, x, x, x, where=jnp.zeros(shape, bool))):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, dtype):
        self.check([jnp.ones(3, dtype)] * 4, jnp.float32)

    @pytest.mark.parametrize("wide", range(4))
    def test_float64_stays_float64(self, x64, wide):
        arrays = [jnp.ones(3, jnp.float32)] * 4
        arrays[wide] = arrays[wide].astype(jnp.float64)
        self.check(arrays, jnp.float64)

    def check(self, arrays, expected):
        loss, metrics = dpo_loss(*arrays, **SETTINGS)
        assert {leaf.dtype for leaf in (loss, *metrics[:-1])} == {jnp.dtype(expected)}
        assert metrics.num_pairs.dtype == jnp.int32

    def test_vmap_over_settings_equals_a_loop(self):
        arrays, where = likelihoods((2, 6))
        grid = np.array([0.1, 0.5, 2], np.float32), np.array([0, 0.1, 0.4], np.float32)

        def run(beta, label_smoothing):
            return dpo_loss(*arrays, beta=beta, label_smoothing=label_smoothing, where=where)

        swept = jax.jit(jax.vmap(run))(*grid)
        for member in range(3):
            close(jax.tree.map(lambda value: value[member], swept), run(*(values[member] for values in grid)))  # noqa: B023

    @pytest.mark.parametrize("beta", [0, -0.1, float("nan"), jnp.float32(0)])
    def test_refuses_a_beta_that_is_not_positive(self, beta):
        with pytest.raises(ValueError, match="beta must be positive, got"):
            dpo_loss(*[jnp.zeros(3)] * 4, beta=beta)

    @pytest.mark.parametrize("label_smoothing", [-0.1, 0.5, 1.0, float("nan"), jnp.float32(0.5)])
    def test_refuses_a_label_smoothing_out_of_range(self, label_smoothing):
        with pytest.raises(ValueError, match=r"label_smoothing must be at least 0 and less than 0\.5, got"):
            dpo_loss(*[jnp.zeros(3)] * 4, beta=0.1, label_smoothing=label_smoothing)

    @pytest.mark.parametrize("name", ["beta", "label_smoothing"])
    @pytest.mark.parametrize("shape", [(1,), (3,)])
    def test_refuses_settings_that_would_broadcast(self, name, shape):
        with pytest.raises(ValueError, match=f"{name} must be a scalar, got an array of shape"):
            dpo_loss(*[jnp.zeros(3)] * 4, **(SETTINGS | {name: jnp.full(shape, 0.1)}))

    def test_refuses_a_mask_that_is_not_boolean(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            dpo_loss(*[jnp.zeros(3)] * 4, beta=0.1, where=jnp.ones(3))

    @pytest.mark.parametrize("name", [*NAMES, "where"])
    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
    def test_refuses_shapes_that_would_broadcast(self, name, shape):
        arrays = dict.fromkeys(NAMES, jnp.zeros((2, 3))) | {"where": jnp.ones((2, 3), bool)}
        arrays[name] = jnp.ones(shape, arrays[name].dtype)
        with pytest.raises(AssertionError) as error:
            dpo_loss(**arrays, beta=0.1)
        assert "(2, 3)" in str(error.value) and f"{name} {shape}" in str(error.value)


class TestPairs:
    @pytest.mark.parametrize(
        ("returns", "pairs", "expected"),
        [
            ([1, 3, 2], "all", [(1, 0), (1, 2), (2, 0)]),
            ([1, 3, 2], "best_worst", [(1, 0)]),
            ([3, 1, 3, 1], "all", [(0, 1), (0, 3), (2, 1), (2, 3)]),
            ([3, 1, 3, 1], "best_worst", [(0, 1)]),
            ([1, 1, 1], "all", []),
            ([1, 1, 1], "best_worst", []),
            ([5], "all", []),
            ([5], "best_worst", []),
        ],
    )
    @pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32, jnp.bfloat16])
    def test_by_hand(self, returns, pairs, expected, dtype):
        got = preference_pairs(jnp.array(returns, dtype), pairs=pairs)
        assert got.dtype == jnp.bool_ and got.shape == (len(returns),) * 2
        assert list(zip(*np.nonzero(got), strict=True)) == expected

    def test_all_is_the_default(self):
        np.testing.assert_array_equal(preference_pairs(jnp.arange(3)), np.tri(3, k=-1, dtype=bool))

    @pytest.mark.parametrize("pairs", PAIRS)
    @pytest.mark.parametrize("shape", [(6,), (2, 3, 6)])
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, reference, make_batch, pairs, shape, garbage):
        batch = make_batch(shape, garbage=garbage)
        where = np.ones(shape, bool) if garbage is None else batch.where
        got = pairs_of(batch.returns, pairs=pairs, where=where)
        np.testing.assert_array_equal(got, reference.preference_pairs(batch.returns, pairs, where))

    @PROPERTY
    @given(FEW, MASK, st.sampled_from(PAIRS))
    def test_match_the_reference_with_ties(self, reference, returns, where, pairs):
        got = pairs_of(returns, pairs=pairs, where=where)
        np.testing.assert_array_equal(got, reference.preference_pairs(returns, pairs, where))

    @PROPERTY
    @given(FEW, MASK, ORDER)
    def test_permuted_trajectories_have_permuted_pairs(self, returns, where, order):
        order = np.array(order)
        got = pairs_of(returns[order], where=where[order])
        np.testing.assert_array_equal(got, pairs_of(returns, where=where)[np.ix_(order, order)])

    @PROPERTY
    @given(FEW, MASK)
    def test_a_pair_is_never_both_ways_and_best_worst_is_one_of_all(self, returns, where):
        everything, one = (np.asarray(pairs_of(returns, pairs=pairs, where=where)) for pairs in PAIRS)
        assert not (everything & everything.T).any()
        assert (one <= everything).all() and one.sum() == everything.any()

    @pytest.mark.parametrize("pairs", PAIRS)
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_a_masked_trajectory_equals_a_dropped_one(self, pairs, garbage):
        where, kept = jnp.array([True, False, True, True]), np.array([0, 2, 3])
        got = preference_pairs(jnp.array([2.0, garbage, 3.0, 1.0]), pairs=pairs, where=where)
        dropped = preference_pairs(jnp.array([2.0, 3.0, 1.0]), pairs=pairs)
        np.testing.assert_array_equal(got[np.ix_(kept, kept)], dropped)
        assert got.sum() == dropped.sum() == {"all": 3, "best_worst": 1}[pairs]

    @pytest.mark.parametrize("pairs", PAIRS)
    @pytest.mark.parametrize(("bad", "good"), [(-np.inf, 1.0), (1.0, np.inf), (-np.inf, np.inf)])
    def test_infinite_returns_are_compared_too(self, pairs, bad, good):
        where = jnp.array([False, True, True])
        got = preference_pairs(jnp.array([0.0, bad, good]), pairs=pairs, where=where)
        assert list(zip(*np.nonzero(got), strict=True)) == [(2, 1)]

    @pytest.mark.parametrize("pairs", PAIRS)
    def test_all_masked_have_no_pairs(self, pairs):
        assert not preference_pairs(jnp.arange(3.0), pairs=pairs, where=jnp.zeros(3, bool)).any()

    @pytest.mark.parametrize("pairs", PAIRS)
    def test_dpo_over_them_equals_a_loop_over_pairs(self, make_batch, pairs):
        batch = make_batch((4,))
        wanted = preference_pairs(batch.returns, pairs=pairs, where=batch.where)

        def spread(values):
            return jnp.broadcast_to(values[:, None], (4, 4)), jnp.broadcast_to(values[None, :], (4, 4))

        loss, metrics = dpo_loss(*spread(batch.scores), *spread(batch.reference_scores), beta=0.4, where=wanted)
        losses = []
        for i, j in product(range(4), repeat=2):
            if batch.where[i] and batch.where[j] and batch.returns[i] > batch.returns[j] and wanted[i, j]:
                ratios = batch.scores - batch.reference_scores
                losses.append(np.log1p(np.exp(-0.4 * (ratios[i] - ratios[j]))))
        assert metrics.num_pairs == len(losses) > 0
        np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)

    def test_refuse_an_unknown_kind(self):
        with pytest.raises(ValueError, match=r"pairs must be one of all, best_worst, got 'worst'\."):
            preference_pairs(jnp.zeros(3), pairs="worst")

    def test_refuse_a_scalar(self):
        with pytest.raises(ValueError, match="returns must have at least one axis, got a scalar"):
            preference_pairs(jnp.float32(1))

    def test_refuse_a_mask_that_is_not_boolean(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            preference_pairs(jnp.zeros(3), where=jnp.ones(3))

    def test_refuse_a_mask_that_would_broadcast(self):
        with pytest.raises(AssertionError) as error:
            preference_pairs(jnp.zeros((2, 3)), where=jnp.ones(3, bool))
        assert "returns (2, 3)" in str(error.value) and "where (3,)" in str(error.value)


LENGTHS = np.random.default_rng(1).integers(1, 9, size=(2, 6)).astype(np.float32)


@jax.jit
def _relatives(arrays, where):
    """Loss and metrics, slopes in chosen and rejected, losses of the pairs and their sum: of IPO and of SimPO."""

    def run(loss):
        (value, metrics), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(*arrays[:2])
        each, total = (loss(*arrays[:2], reduce_fn=reduce_fn)[0] for reduce_fn in (None, jnp.sum))
        return value, metrics, slopes, each, total

    return {
        "ipo": run(lambda *x, **options: ipo_loss(*x, *arrays[2:], beta=0.4, where=where, **options)),
        "simpo": run(lambda *x, **options: simpo_loss(*x, *LENGTHS, beta=2.0, margin=0.5, where=where, **options)),
    }


def relatives(arrays, where=True):
    arrays = [np.asarray(array, np.float32) for array in arrays]
    return jax.device_get(_relatives(arrays, np.broadcast_to(where, 6)))


def losses_and_slopes(name, arrays):
    """Of the pairs, the slopes those in the chosen's log-likelihoods."""
    chosen, rejected, reference_chosen, reference_rejected = arrays
    if name == "ipo":
        excess = (chosen - reference_chosen) - (rejected - reference_rejected) - 1 / 0.8
        return excess**2, 2 * excess
    logits = 2 * (chosen / LENGTHS[0] - rejected / LENGTHS[1]) - 0.5
    return np.log1p(np.exp(-logits)), -2 / (1 + np.exp(logits)) / LENGTHS[0]


@pytest.mark.parametrize("name", ["ipo", "simpo"])
class TestRelatives:
    """IPO and SimPO."""

    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    def test_match_the_reference(self, name, garbage):
        arrays, where = likelihoods((6,))
        losses, slopes = losses_and_slopes(name, arrays)
        where = np.ones(6, bool) if garbage is None else where
        spoilt = [np.where(where, array, garbage) for array in arrays] if garbage is not None else arrays
        value, metrics, (up, down), each, total = relatives(spoilt, where)[name]
        np.testing.assert_allclose(value, losses[where].mean(), rtol=1e-5)
        np.testing.assert_allclose(total, losses[where].sum(), rtol=1e-5)
        np.testing.assert_allclose(each, np.where(where, losses, 0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(up, np.where(where, slopes, 0) / where.sum(), rtol=1e-4, atol=1e-7)
        steps = LENGTHS if name == "simpo" else np.ones((2, 6))
        np.testing.assert_allclose(up * steps[0], -down * steps[1], rtol=1e-5)
        assert metrics.num_pairs == where.sum()

    def test_all_masked_gives_loss_zero_and_gradient_zero(self, name):
        value, metrics, slopes, each, _ = relatives(np.full((4, 6), np.nan), False)[name]
        assert value == 0 and not any(metrics) and not each.any() and not any(slope.any() for slope in slopes)


def test_narrow_input_of_ipo_and_simpo_gives_float32():
    x = jnp.ones(3, jnp.bfloat16)
    both = lambda x: (ipo_loss(x, x, x, x, beta=0.4), simpo_loss(x, x, x, x, beta=2.0, margin=0.5))  # noqa: E731
    for loss, metrics in jax.eval_shape(both, x):
        assert loss.dtype == metrics.margin.dtype == jnp.float32


def test_the_margin_of_ipo_stops_at_its_target():
    chosen = 1 / (2 * 0.4) + np.array([0.0, -1, 9, 0, 0, 0])
    _, _, (up, _), _, _ = relatives([chosen, *np.zeros((3, 6))])["ipo"]
    assert up[0] == 0 > up[1] and up[2] > 0


def test_simpo_of_single_steps_without_a_margin_is_dpo_without_a_reference():
    arrays, where = likelihoods((6,))
    ones, zeros = np.ones(6), np.zeros(6)
    options = {"where": where, "beta": 0.4}
    got = jax.jit(lambda *x: simpo_loss(*x, ones, ones, margin=0.0, **options))(*arrays[:2])
    close(got, dpo(*arrays[:2], zeros, zeros, where=where, label_smoothing=0.0)[0])


def test_simpo_refuses_a_negative_margin():
    with pytest.raises(ValueError, match=r"^margin must be at least 0, got -0\.1\.$"):
        simpo_loss(*jnp.ones((4, 3)), beta=1.0, margin=-0.1)


@pytest.mark.parametrize("pairs", ["all", "best_worst"])
def test_no_trajectories_are_in_no_pair(pairs):
    assert preference_pairs(jnp.zeros((2, 0)), pairs=pairs).shape == (2, 0, 0)

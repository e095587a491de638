"""`policy_ratio_loss` and its presets: values, gradients, masks, pieces, extremes, transformations, errors."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from haepo_jax import (
    AGGREGATIONS,
    clipped_surrogate_loss,
    grpo_loss,
    policy_ratio_loss,
    presets,
)

GARBAGE = [np.nan, np.inf, -np.inf]
CLIP = {"clip_low": 0.2, "clip_high": 0.3}
SETTINGS = {
    "clip": CLIP,
    "cispo": {"shape": "cispo", **CLIP},
    "sapo": {"shape": "sapo", "temperatures": (0.7, 2.0)},
    "none": {"shape": "none"},
    "sequence_clip": {"level": "sequence", "clip_low": 0.05, "clip_high": 0.1},
    "sequence_cispo": {"level": "sequence", "shape": "cispo", "clip_low": 0.05, "clip_high": 0.1},
    "sequence_sapo": {"level": "sequence", "shape": "sapo"},
    "sequence_none": {"level": "sequence", "shape": "none"},
    "vespo": {"level": "sequence", "shape": "vespo"},
    "geometric_clip": {"level": "geometric_mean", **CLIP},
    "geometric_none": {"level": "geometric_mean", "shape": "none"},
}
ALL = pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
FEW = pytest.mark.parametrize("kind", ["clip", "sequence_clip", "vespo", "geometric_clip"])
PRESETS = {name: getattr(presets, name) for name in presets.__all__}
SHAPE = (2, 4, 5)

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))


def batch(garbage=None, seed=0, shape=SHAPE):
    """Log-probabilities, nearby ones, advantages and a mask: the second trajectory of the first group is masked."""
    rng = np.random.default_rng(seed)
    log_probs, where = -rng.exponential(size=shape), rng.random(shape) < 0.7
    where[..., 0] = True
    where[(0,) * (len(shape) - 2) + (1,)] = False
    arrays = [log_probs, log_probs + 0.3 * rng.normal(size=shape)]
    advantages = rng.normal(size=shape[:-1])
    if garbage is not None:
        arrays = [np.where(where, array, garbage) for array in arrays]
        advantages = np.where(where.any(-1), advantages, garbage)
    return [*arrays, advantages], where


def evaluate(*arrays, **options):
    """Loss and metrics, and the gradient with respect to the log-probabilities."""
    x, *rest = (jnp.asarray(array) for array in arrays)
    return jax.value_and_grad(lambda x: policy_ratio_loss(x, *rest, **options), has_aux=True)(x)


def of_the_reference(options):
    """The options by the names of the reference, with the defaults."""
    names = {"clip_low": "low", "clip_high": "high"}
    defaults = {"level": "token", "shape": "clip", "aggregation": "token_mean"}
    shape = options.get("shape", "clip")
    defaults |= {"sapo": {"temperatures": (1, 1.05)}, "vespo": {"kernels": ((2, 3), (3, 2))}}.get(shape, {})
    return defaults | {names.get(name, name): value for name, value in options.items()}


def check_reference(reference, options, where, weights=None):
    clean, _ = batch()
    expected = reference.policy_ratio(*clean, **of_the_reference(options), where=where, weights=weights)
    (loss, metrics), slopes = evaluate(*batch(np.nan)[0], where=where, importance_weights=weights, **options)
    np.testing.assert_allclose(loss, expected.losses.mean(), rtol=1e-10)
    np.testing.assert_allclose(slopes, expected.slopes / 2, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(metrics.policy_loss, expected.losses, rtol=1e-10)
    for name in ("clip_fraction", "approx_kl", "mean_ratio", "num_valid", "num_steps"):
        np.testing.assert_allclose(getattr(metrics, name), getattr(expected, name), rtol=1e-10, err_msg=name)
    return expected


class TestReference:
    @ALL
    def test_loss_metrics_and_slopes_match_it(self, reference, x64, options):
        expected = check_reference(reference, options, batch()[1])
        assert (expected.clip_fraction > 0).all() == ("clip_low" in options)  # the batch has both sides of the clip

    @FEW
    @pytest.mark.parametrize("aggregation", ["sequence_mean", "constant"])
    def test_other_aggregations_match_it(self, reference, x64, kind, aggregation):
        check_reference(reference, SETTINGS[kind] | {"aggregation": aggregation}, batch()[1])

    @FEW
    def test_weighed_steps_match_it(self, reference, x64, kind):
        weights = np.random.default_rng(1).exponential(size=SHAPE)
        weights[1, 2] = 0
        check_reference(reference, SETTINGS[kind], batch()[1], weights)

    def test_half_precision_is_computed_in_single(self):
        arrays, where = batch()
        half = [jnp.asarray(array, jnp.bfloat16) for array in arrays]
        (loss, metrics), slopes = evaluate(*half, where=where, **CLIP)
        assert loss.dtype == metrics.policy_loss.dtype == jnp.float32 and slopes.dtype == jnp.bfloat16
        assert metrics.num_valid.dtype == metrics.num_steps.dtype == jnp.int32
        (expected, _), _ = evaluate(*(array.astype(jnp.float32) for array in half), where=where, **CLIP)
        assert loss == expected


class TestSpecialCases:
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_the_clip_of_steps_with_a_penalty_is_grpo_to_the_bit(self, aggregation):
        (log_probs, behaviour, advantages), where = batch()
        reference = jnp.asarray(log_probs - 0.5 * behaviour)
        options = {"kl_coef": 0.3, "where": where, "aggregation": aggregation}
        ours = evaluate(log_probs, behaviour, advantages, reference, clip_low=0.2, clip_high=0.2, **options)
        grpo = partial(grpo_loss, clip_epsilon=0.2, **options)
        rest = [jnp.asarray(array) for array in (behaviour, advantages, reference)]
        theirs = jax.value_and_grad(lambda x: grpo(x, *rest), has_aux=True)(jnp.asarray(log_probs))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert (ours[0][1].kl > 0).all()

    def test_a_single_step_is_the_clipped_surrogate_on_every_level(self):
        (log_probs, behaviour, advantages), _ = batch(shape=(6, 1))
        expected, terms = clipped_surrogate_loss(log_probs[:, 0], behaviour[:, 0], advantages, clip_epsilon=0.2)
        for level in ("token", "sequence", "geometric_mean"):
            (loss, metrics), _ = evaluate(
                log_probs, behaviour, advantages, level=level, clip_low=0.2, clip_high=0.2, where=np.ones((6, 1), bool)
            )
            close((loss, metrics.clip_fraction, metrics.mean_ratio), (expected, terms.clip_fraction, terms.mean_ratio))

    @ALL
    def test_on_fresh_samples_every_shape_has_the_gradient_of_reinforce(self, options):
        (log_probs, _, advantages), where = batch()
        _, slopes = evaluate(log_probs, log_probs, advantages, where=where, **options)
        expected = -np.where(where, advantages[..., None], 0) / where.sum((-2, -1), keepdims=True) / 2
        np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-7)

    def test_without_a_clip_the_two_levels_of_trajectories_agree(self):
        arrays, where = batch()
        results = [evaluate(*arrays, where=where, level=x, shape="none") for x in ("sequence", "geometric_mean")]
        close(*results)

    def test_bounds_of_1_and_infinity_hold_nothing(self):
        arrays, where = batch()
        for level in ("token", "geometric_mean"):
            wide = evaluate(*arrays, where=where, level=level, clip_low=1, clip_high=math.inf)
            close(wide, evaluate(*arrays, where=where, level=level, shape="none"))
            assert (wide[0][1].clip_fraction == 0).all()


class TestByHand:
    """One trajectory of two steps, whose ratios are 2 and 1/4, and the log-probabilities -1 and -2."""

    LOG_PROBS = np.array([[-1.0, -2.0]])
    BEHAVIOUR = LOG_PROBS - np.log([[2, 0.25]])

    def both(self, **options):
        """The losses under the advantages 1 and -1, and the slopes."""
        results = [evaluate(self.LOG_PROBS, self.BEHAVIOUR, np.array([a]), **options) for a in (1.0, -1.0)]
        return [float(result[0][0]) for result in results], np.stack([result[1][0] for result in results])

    def test_dapo_clips_higher_than_lower(self):
        losses, slopes = self.both(clip_low=0.2, clip_high=0.28)
        np.testing.assert_allclose(losses, [-(1.28 + 0.25) / 2, (2 + 0.8) / 2], rtol=1e-6)
        np.testing.assert_allclose(slopes, [[0, -0.125], [1, 0]], rtol=1e-6)

    def test_gspo_clips_the_geometric_mean(self):
        ratio = math.sqrt(0.5)
        losses, slopes = self.both(level="sequence", clip_low=0.1, clip_high=0.1)
        np.testing.assert_allclose(losses, [-ratio, 0.9], rtol=1e-6)
        np.testing.assert_allclose(slopes, [[-ratio / 2] * 2, [0, 0]], rtol=1e-6)

    def test_gmpo_clips_within_the_geometric_mean(self):
        losses, slopes = self.both(level="geometric_mean", clip_low=0.5, clip_high=0.5)
        ratios = math.sqrt(1.5 * 0.25), math.sqrt(2 * 0.5)
        np.testing.assert_allclose(losses, [-ratios[0], ratios[1]], rtol=1e-6)
        np.testing.assert_allclose(slopes, [[0, -ratios[0] / 2], [ratios[1] / 2, 0]], rtol=1e-6)

    def test_cispo_bounds_the_weight_and_keeps_every_step(self):
        losses, slopes = self.both(shape="cispo", clip_low=0.5, clip_high=0.5)
        np.testing.assert_allclose(losses, [1.5 / 2 + 0.5, -1.5 / 2 - 0.5], rtol=1e-6)
        np.testing.assert_allclose(slopes, [[-0.75, -0.25], [0.75, 0.25]], rtol=1e-6)

    def test_sapo_has_a_gate_for_gains_and_one_for_losses(self):
        losses, _ = self.both(shape="sapo", temperatures=(1.0, 2.0))
        gates = [sum(4 / t / (1 + math.exp(-t * (r - 1))) for r in (2, 0.25)) / 2 for t in (1, 2)]
        np.testing.assert_allclose(losses, [-gates[0], gates[1]], rtol=1e-6)

    def test_vespo_weighs_by_a_kernel_of_the_product(self):
        losses, slopes = self.both(level="sequence", shape="vespo", kernels=((2, 3), (1, 4)))
        kernels = 0.5**2 * math.exp(3 * 0.5), 0.5 * math.exp(4 * 0.5)
        np.testing.assert_allclose(losses, [kernels[0] * 1.5, -kernels[1] * 1.5], rtol=1e-5)
        np.testing.assert_allclose(slopes, [[-kernels[0] / 2] * 2, [kernels[1] / 2] * 2], rtol=1e-5)


class TestMasks:
    @ALL
    @pytest.mark.parametrize("garbage", [np.nan, -np.inf])
    def test_masked_garbage_does_not_matter(self, options, garbage):
        clean, where = batch()
        got = evaluate(*batch(garbage)[0], where=where, importance_weights=np.where(where, 2.0, garbage), **options)
        expected = evaluate(*clean, where=where, importance_weights=np.full(SHAPE, 2.0), **options)
        jax.tree.map(np.testing.assert_array_equal, got, expected)
        np.testing.assert_array_equal(got[1][~where], 0)

    @FEW
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_a_masked_trajectory_equals_a_dropped_one_and_padding_is_nothing(self, kind, aggregation):
        arrays, where = batch(shape=(4, 5))
        options = SETTINGS[kind] | {"aggregation": aggregation}
        kept = [0, 2, 3]
        (loss, metrics), slopes = evaluate(*arrays, where=where, **options)
        dropped, slopes_of_dropped = evaluate(*(array[kept] for array in arrays), where=where[kept], **options)
        close(((loss, metrics), slopes[np.array(kept)]), (dropped, slopes_of_dropped))
        longer = [np.pad(array, ((0, 0), (0, 3)), constant_values=np.nan) for array in arrays[:2]]
        padded = evaluate(*longer, arrays[2], where=np.pad(where, ((0, 0), (0, 3))), max_steps=5, **options)
        close(padded, ((loss, metrics), np.pad(slopes, ((0, 0), (0, 3)))))

    @ALL
    def test_a_group_without_a_valid_step_contributes_nothing(self, options):
        arrays, where = batch(np.nan)
        where[1] = False
        (loss, metrics), slopes = evaluate(*arrays, where=where, **options)
        (alone, _), slopes_alone = evaluate(*(array[0] for array in arrays), where=where[0], **options)
        close((loss, slopes[0]), (alone, slopes_alone))
        for leaf in (slopes, *metrics):
            np.testing.assert_array_equal(leaf[1], np.zeros(leaf[1].shape))


class TestPieces:
    @FEW
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_pieces_of_a_group_with_its_divisor_add_up_to_it(self, kind, aggregation):
        arrays, where = batch(shape=(4, 5))
        options = SETTINGS[kind] | {"aggregation": aggregation}
        (loss, metrics), slopes = evaluate(*arrays, where=where, **options)
        divisor = {"sequence_mean": metrics.num_valid, "token_mean": metrics.num_steps}.get(
            aggregation, metrics.num_valid * 5
        )
        pieces = [
            evaluate(*(array[part] for array in arrays), where=where[part], divisor=divisor, **options)
            for part in (slice(0, 1), slice(1, 4))
        ]
        np.testing.assert_allclose(sum(piece[0][0] for piece in pieces), loss, rtol=1e-5)
        np.testing.assert_allclose(np.concatenate([piece[1] for piece in pieces]), slopes, rtol=1e-5, atol=1e-8)

    def test_whole_groups_summed_add_up(self):
        arrays, where = batch()
        together = evaluate(*arrays, where=where, reduce_fn=jnp.sum, **CLIP)
        alone = [evaluate(*(array[i] for array in arrays), where=where[i], **CLIP) for i in range(2)]
        np.testing.assert_allclose(together[0][0], sum(result[0][0] for result in alone), rtol=1e-6)
        np.testing.assert_allclose(together[1], np.stack([result[1] for result in alone]), rtol=1e-6)

    def test_without_a_reduction_there_is_a_loss_for_each_group(self):
        arrays, where = batch()
        losses, metrics = policy_ratio_loss(*arrays, where=where, reduce_fn=None, **CLIP)
        np.testing.assert_array_equal(losses, metrics.policy_loss)

    def test_groups_laid_end_to_end_count_all_steps_of_the_batch_alike(self):
        (log_probs, behaviour, advantages), where = batch()
        flat = [array.reshape(8, -1) for array in (log_probs, behaviour)]
        (loss, _), _ = evaluate(*flat, advantages.reshape(8), where=where.reshape(8, -1), **CLIP)
        (_, metrics), _ = evaluate(log_probs, behaviour, advantages, where=where, **CLIP)
        steps = metrics.num_steps
        np.testing.assert_allclose(loss, (metrics.policy_loss * steps).sum() / steps.sum(), rtol=1e-6)

    @FEW
    def test_packed_trajectories_have_the_loss_and_slopes_of_one_in_a_row(self, kind):
        (log_probs, behaviour, advantages), where = batch(shape=(4, 6))
        order = [2, 0, 3, 1]

        def pack(rows):
            return np.asarray(rows)[order].reshape(2, 12)

        for aggregation in AGGREGATIONS:
            options = SETTINGS[kind] | {"aggregation": aggregation, "max_steps": 6}
            expected, slopes = evaluate(log_probs, behaviour, advantages, where=where, **options)
            places = pack(np.broadcast_to(np.arange(4)[:, None], (4, 6)))
            packed = {"where": pack(where), "trajectory_of_step": places}
            got, got_slopes = evaluate(pack(log_probs), pack(behaviour), advantages, **packed, **options)
            close((got, got_slopes), (expected, pack(slopes)))


class TestWeights:
    def test_weights_are_constants_and_a_weight_of_0_silences_even_an_infinite_loss(self):
        (log_probs, behaviour, advantages), where = batch(shape=(4, 5))
        weights = jnp.ones((4, 5)).at[0].set(0)
        log_probs[0] = -np.inf

        def loss(log_probs, weights):
            options = {"shape": "cispo", "clip_low": 0.2, "clip_high": 0.2, "where": where}
            return policy_ratio_loss(log_probs, behaviour, advantages, importance_weights=weights, **options)[0]

        value, (slopes, of_weights) = jax.value_and_grad(loss, argnums=(0, 1))(jnp.asarray(log_probs), weights)
        assert np.isfinite(value) and not slopes[0].any() and slopes[2].any()
        np.testing.assert_array_equal(of_weights, np.zeros((4, 5)))

    def test_a_weight_counts_in_the_loss_and_not_in_its_divisor_nor_in_the_penalty(self):
        (log_probs, behaviour, advantages), where = batch()
        options = {"where": where, "kl_coef": 0.5, **CLIP}
        arrays = log_probs, behaviour, advantages, log_probs - 0.1
        (_, full), _ = evaluate(*arrays, **options)
        (loss, metrics), _ = evaluate(*arrays, importance_weights=np.full(SHAPE, 0.5), **options)
        np.testing.assert_allclose(metrics.policy_loss, full.policy_loss / 2, rtol=1e-6)
        np.testing.assert_allclose(loss, (full.policy_loss / 2 + 0.5 * full.kl).mean(), rtol=1e-6)


class TestExtremes:
    @ALL
    @pytest.mark.parametrize("log_ratio", [200.0, 1e4, 1e25, -200.0, -1e25])
    def test_a_finite_log_ratio_has_a_finite_loss_and_slope(self, options, log_ratio):
        x = jnp.zeros((2, 2)).at[:, 0].set(log_ratio)
        (loss, metrics), slopes = evaluate(x, jnp.zeros((2, 2)), jnp.array([1.0, -1.0]), **options)
        assert np.isfinite(loss) and np.isfinite(metrics.approx_kl) and np.isfinite(slopes).all()

    @ALL
    @pytest.mark.parametrize("log_ratio", [np.inf, -np.inf])
    def test_without_an_advantage_even_an_infinite_ratio_adds_nothing(self, options, log_ratio):
        behaviour = jnp.full((2, 2), -log_ratio)
        (loss, _), slopes = evaluate(jnp.zeros((2, 2)), behaviour, jnp.zeros(2), **options)
        assert loss == 0 and not slopes.any()

    def test_gradients_flow_through_the_log_probs_alone(self):
        arrays, where = batch()
        for options in SETTINGS.values():
            loss = lambda *arrays: policy_ratio_loss(*arrays, where=where, **options)[0]  # noqa: B023, E731
            for gradient in jax.grad(loss, argnums=(1, 2))(*map(jnp.asarray, arrays)):
                np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


class TestTransforms:
    def test_permuted_trajectories_have_permuted_slopes(self):
        arrays, where = batch(shape=(4, 5))
        order = np.array([3, 1, 0, 2])
        for options in SETTINGS.values():
            result, slopes = evaluate(*arrays, where=where, **options)
            permuted = evaluate(*(array[order] for array in arrays), where=where[order], **options)
            close(permuted, (result, slopes[order]))

    def test_jit_and_vmap_over_groups_and_traced_bounds_give_the_same(self):
        arrays, where = batch()

        @jax.jit
        def each(low, high, *arrays):
            def one(*group, level):
                *group, where = group
                return policy_ratio_loss(*group, where=where, level=level, clip_low=low, clip_high=high)

            return [jax.vmap(partial(one, level=level))(*arrays) for level in ("token", "sequence", "geometric_mean")]

        results = each(0.1, 0.2, *arrays, where)
        for (losses, metrics), level in zip(results, ("token", "sequence", "geometric_mean"), strict=True):
            (loss, expected), _ = evaluate(*arrays, where=where, level=level, clip_low=0.1, clip_high=0.2)
            close((losses.mean(), metrics), (loss, expected))

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_trajectories_spread_over_devices_give_the_same_loss_and_gradient(self, check_vma):
        arrays, where = batch(shape=(2, 8, 3))
        kinds = {"clip": "token_mean", "sequence_clip": "sequence_mean", "vespo": "constant"}

        def losses(factor, *arrays, axis_name=None):
            *arrays, where = arrays
            return sum(
                policy_ratio_loss(
                    factor * arrays[0],
                    *arrays[1:],
                    where=where,
                    aggregation=aggregation,
                    axis_name=axis_name,
                    **SETTINGS[kind],
                )[0]
                for kind, aggregation in kinds.items()
            )

        def local(factor, *arrays):
            value, gradient = jax.value_and_grad(partial(losses, axis_name="devices"))(factor, *arrays)
            return value, lax.pmean(gradient, "devices")

        spread = PartitionSpec(None, "devices")
        mapped = jax.shard_map(
            local,
            mesh=Mesh(np.array(jax.devices()), ("devices",)),
            in_specs=(PartitionSpec(), *[spread] * 4),
            out_specs=PartitionSpec(),
            check_vma=check_vma,
        )
        factor = np.float32(1.1)
        got = jax.jit(mapped)(factor, *(x.astype(np.float32) for x in arrays), where)
        close(got, jax.value_and_grad(losses)(factor, *map(jnp.asarray, arrays), where))


class TestPresets:
    def test_each_is_a_known_setting_and_all_differ(self):
        (log_probs, behaviour, advantages), where = batch()
        losses = {
            name: float(preset(log_probs, behaviour, advantages, where=where)[0]) for name, preset in PRESETS.items()
        }
        assert sorted(PRESETS) == ["cispo", "dapo", "dr_grpo", "gmpo", "grpo", "gspo", "sapo", "vespo"]
        assert len({round(loss, 6) for loss in losses.values()}) == len(PRESETS)

    @pytest.mark.parametrize(
        ("name", "low", "high"),
        [
            ("grpo", 0.8, 1.2),
            ("dr_grpo", 0.8, 1.2),
            ("dapo", 0.8, 1.28),
            ("gspo", 0.9997, 1.0004),
            ("cispo", 0.0, 5.0),
            ("gmpo", math.exp(-0.4), math.exp(0.4)),
        ],
    )
    def test_its_bounds_are_those_of_its_paper(self, name, low, high):
        options = PRESETS[name].keywords
        np.testing.assert_allclose((1 - options["clip_low"], 1 + options["clip_high"]), (low, high), rtol=1e-12)

    def test_what_a_caller_sets_replaces_what_is_preset(self):
        arrays, where = batch()
        loss, _ = presets.dapo(*arrays, where=where, clip_high=0.2, aggregation="sequence_mean")
        assert loss == presets.grpo(*arrays, where=where)[0]


class TestErrors:
    ARRAYS = (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2))

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({}, "shape 'clip' needs clip_low and clip_high; clip_low=1 and clip_high=inf hold nothing."),
            (
                {"shape": "cispo", "clip_high": 0.2},
                "shape 'cispo' needs clip_low and clip_high; clip_low=1 and clip_high=inf hold nothing.",
            ),
            ({"shape": "sapo", "clip_high": 0.2}, "shape 'sapo' has no clip; leave clip_high out."),
            ({"shape": "none", **CLIP}, "shape 'none' has no clip; leave clip_low and clip_high out."),
            (
                {"level": "geometric_mean", "shape": "sapo"},
                "level 'geometric_mean' has the shapes clip and none, got 'sapo'.",
            ),
            (
                {"shape": "vespo"},
                "shape 'vespo' weighs whole trajectories and has the level sequence, got 'token'.",
            ),
            ({"shape": "sapo", "temperatures": 1.0}, "temperatures must be two positive numbers, got 1.0."),
            ({"shape": "sapo", "temperatures": (1, 0)}, "temperatures[1] must be positive, got 0."),
            (
                {"level": "sequence", "shape": "vespo", "kernels": (2, 3, 4)},
                "kernels must be two pairs of power and rate, got (2, 3, 4).",
            ),
            (
                {"level": "sequence", "shape": "vespo", "kernels": ((2, 3), 4)},
                "kernels[1] must be two positive numbers, got 4.",
            ),
            ({**CLIP, "clip_low": -0.1}, "clip_low must be positive, got -0.1."),
            ({**CLIP, "divisor": 0}, "divisor must be positive, got 0."),
            (
                {**CLIP, "divisor": np.ones(2)},
                "divisor must be a scalar or one number a group, of shape (), got an array of shape (2,).",
            ),
            (
                {**CLIP, "kl_coef": 0.1},
                "kl_coef 0.1 needs reference_log_probs; give them, or set kl_coef to the number 0 (not traced).",
            ),
            ({**CLIP, "axis_name": "x"}, "axis_name 'x' is not the name of an axis that is mapped here."),
        ],
        ids=str,
    )
    def test_what_does_not_go_together_is_named(self, options, sentence):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            policy_ratio_loss(*self.ARRAYS, **options)
        assert str(error.value) == sentence

    def test_weights_of_another_shape_are_refused(self):
        with pytest.raises(AssertionError, match=r"importance_weights \(2,\)"):
            policy_ratio_loss(*self.ARRAYS, importance_weights=np.ones(2), **CLIP)

    def test_a_reduction_that_is_no_function_is_refused(self):
        with pytest.raises(TypeError, match=r"reduce_fn must be a function such as jnp\.sum, or None, got 'mean'"):
            policy_ratio_loss(*self.ARRAYS, reduce_fn="mean", **CLIP)

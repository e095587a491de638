"""`policy_ratio_loss` and its presets: values, gradients, masks, pieces, extremes, transformations, errors."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from haepo_jax import grpo_loss, policy_ratio_loss, presets

CLIP = {"clip_low": 0.2, "clip_high": 0.28}
HALF = {"clip_low": 0.5, "clip_high": 0.5}
TENTH = {"clip_low": 0.1, "clip_high": 0.1}
SETTINGS = {
    "clip": CLIP,
    "cispo": {"shape": "cispo", **HALF},
    "sapo": {"shape": "sapo", "temperatures": (1.0, 2.0)},
    "none": {"shape": "none"},
    "sequence_clip": {"level": "sequence", **TENTH},
    "sequence_sapo": {"level": "sequence", "shape": "sapo"},
    "sequence_none": {"level": "sequence", "shape": "none"},
    "vespo": {"level": "sequence", "shape": "vespo", "kernels": ((2, 3), (1, 4))},
    "geometric_clip": {"level": "geometric_mean", **HALF},
    "geometric_none": {"level": "geometric_mean", "shape": "none"},
    "clip_by_trajectory": {**CLIP, "aggregation": "sequence_mean"},
    "clip_by_length": {**CLIP, "aggregation": "constant"},
    "geometric_by_length": {"level": "geometric_mean", **HALF, "aggregation": "constant"},
}
ALL = pytest.mark.parametrize("name", SETTINGS)
SHAPE = (2, 4, 5)

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))


def batch(seed=0):
    """Log-probabilities, nearby ones, advantages and a mask: the second trajectory of the first group is masked."""
    rng = np.random.default_rng(seed)
    log_probs, where = -rng.exponential(size=SHAPE), rng.random(SHAPE) < 0.7
    where[..., 0] = True
    where[0, 1] = False
    return [log_probs, log_probs + 0.5 * rng.normal(size=SHAPE), rng.normal(size=SHAPE[:-1])], where


def spoil(arrays, where, garbage):
    """The arrays with garbage where masked."""
    *steps, advantages = arrays
    return [*(np.where(where, x, garbage) for x in steps), np.where(where.any(-1), advantages, garbage)]


@jax.jit
def _everything(log_probs, behaviour, advantages, where, weights):
    def one(options):
        def loss(x):
            return policy_ratio_loss(x, behaviour, advantages, importance_weights=weights, where=where, **options)

        (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(log_probs)
        return value, metrics, slopes

    return {name: one(options) for name, options in SETTINGS.items()}


def everything(arrays, where, weights=None):
    """Loss, metrics and slopes under all settings, from one program."""
    weights = np.ones(SHAPE) if weights is None else weights
    arrays = (np.asarray(x, np.float32) for x in arrays)
    return jax.device_get(_everything(*arrays, where, np.asarray(weights, np.float32)))


@pytest.fixture(scope="module")
def results():
    arrays, where = batch()
    return everything(arrays, where)


def expected_of(reference, name, arrays, where, weights=None):
    names = {"clip_low": "low", "clip_high": "high"}
    options = {"level": "token", "shape": "clip", "aggregation": "token_mean"} | {
        names.get(option, option): value for option, value in SETTINGS[name].items()
    }
    defaults = {"sapo": {"temperatures": (1, 1.05)}, "vespo": {"kernels": ((2, 3), (3, 2))}}
    options = defaults.get(options["shape"], {}) | options
    return reference.policy_ratio(*arrays, **options, where=where, weights=weights)


class TestReference:
    def check(self, got, expected):
        loss, metrics, slopes = got
        counted = max((expected.num_valid > 0).sum(), 1)
        np.testing.assert_allclose(loss, expected.losses.sum() / counted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(slopes, expected.slopes / counted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics.policy_loss, expected.losses, rtol=1e-4, atol=1e-6)
        for name in ("clip_fraction", "approx_kl", "mean_ratio", "num_valid", "num_steps"):
            np.testing.assert_allclose(getattr(metrics, name), getattr(expected, name), rtol=1e-4, err_msg=name)

    @ALL
    @pytest.mark.parametrize("garbage", [np.nan, -np.inf])
    def test_loss_metrics_and_slopes_match_it_whatever_is_masked(self, reference, results, name, garbage):
        arrays, where = batch()
        expected = expected_of(reference, name, arrays, where)
        self.check(everything(spoil(arrays, where, garbage), where)[name], expected)
        bounded = "clip_low" in SETTINGS[name]
        assert (expected.clip_fraction.max() > 0) == bounded  # the batch has steps beyond the bounds

    @ALL
    def test_weighed_steps_match_it(self, reference, name):
        arrays, where = batch(1)
        weights = np.random.default_rng(2).exponential(size=SHAPE)
        weights[1, 2] = 0
        got = everything(spoil(arrays, where, np.nan), where, np.where(where, weights, np.nan))[name]
        self.check(got, expected_of(reference, name, arrays, where, weights))

    @ALL
    def test_padding_of_all_rows_equals_none(self, reference, name):
        arrays, where = batch()
        where[..., 3:] = False
        trimmed = [x[..., :3] for x in arrays[:2]]
        expected = expected_of(reference, name, [*trimmed, arrays[2]], where[..., :3])
        longer = 3 / 5 if SETTINGS[name].get("aggregation") == "constant" else 1  # which counts the time axis
        expected.losses, expected.slopes = (
            longer * expected.losses,
            np.pad(longer * expected.slopes, [(0, 0)] * 2 + [(0, 2)]),
        )
        self.check(everything(spoil(arrays, where, np.nan), where)[name], expected)

    @ALL
    def test_a_group_without_a_valid_step_contributes_nothing(self, reference, name):
        arrays, where = batch()
        where[1] = False
        got = everything(spoil(arrays, where, np.nan), where)[name]
        self.check(got, expected_of(reference, name, arrays, where))
        assert not got[2][1].any() and all(leaf[1] == 0 for leaf in got[1])


class TestSpecialCases:
    def test_the_clip_of_steps_with_a_penalty_is_grpo_to_the_bit(self):
        (log_probs, behaviour, advantages), where = batch()
        rest = behaviour, advantages, log_probs - 0.5 * behaviour

        def both(x):
            options = {"kl_coef": 0.3, "where": where, "aggregation": "token_mean"}
            ours = lambda x: policy_ratio_loss(x, *rest, clip_low=0.2, clip_high=0.2, **options)  # noqa: E731
            theirs = lambda x: grpo_loss(x, *rest, clip_epsilon=0.2, **options)  # noqa: E731
            return [jax.value_and_grad(loss, has_aux=True)(x) for loss in (ours, theirs)]

        ours, theirs = jax.device_get(jax.jit(both)(log_probs))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert (ours[0][1].kl > 0).all()

    @ALL
    def test_on_fresh_samples_every_shape_has_the_gradient_of_reinforce(self, name):
        (log_probs, _, advantages), where = batch()
        _, metrics, slopes = everything([log_probs, log_probs, advantages], where)[name]
        steps, lengths = where.sum((-2, -1), keepdims=True), np.maximum(where.sum(-1, keepdims=True), 1)
        trajectories = where.any(-1).sum(-1)[:, None, None]
        divisors = {"sequence_mean": lengths * trajectories, "constant": 5 * trajectories}
        divisor = divisors.get(SETTINGS[name].get("aggregation"), steps)
        expected = -np.where(where, advantages[..., None], 0) / divisor / 2
        np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(metrics.mean_ratio, 1, rtol=1e-6)
        assert not metrics.clip_fraction.any() and not metrics.approx_kl.any()

    def test_without_a_clip_the_two_levels_of_trajectories_agree(self, results):
        close(results["sequence_none"], results["geometric_none"])

    @ALL
    def test_permuted_trajectories_have_permuted_slopes(self, results, name):
        arrays, where = batch()
        order = np.array([3, 1, 0, 2])
        loss, metrics, slopes = everything([x[:, order] for x in arrays], where[:, order])[name]
        close((loss, metrics, slopes), (*results[name][:2], results[name][2][:, order]))


@pytest.fixture(scope="module")
def both():
    where = np.zeros(SHAPE, bool)
    where[:, 0, :2] = True
    log_probs = np.broadcast_to([-1.0, -2, 0, 0, 0], SHAPE)
    behaviour = log_probs - np.log([2, 0.25, 1, 1, 1])
    advantages = np.broadcast_to([[1.0], [-1.0]], SHAPE[:-1])
    return everything([log_probs, behaviour, advantages], where)


class TestByHand:
    """Two steps, of the ratios 2 and 1/4 and the log-probabilities -1 and -2, once of advantage 1 and once of -1."""

    @staticmethod
    def check(result, losses, slopes):
        _, metrics, got = result
        np.testing.assert_allclose(metrics.policy_loss, losses, rtol=1e-5)
        np.testing.assert_allclose(2 * got[:, 0, :2], slopes, rtol=1e-5, atol=1e-7)

    def test_dapo_clips_higher_than_lower(self, both):
        self.check(both["clip"], [-(1.28 + 0.25) / 2, (2 + 0.8) / 2], [[0, -0.125], [1, 0]])

    def test_gspo_clips_the_geometric_mean(self, both):
        ratio = math.sqrt(0.5)
        self.check(both["sequence_clip"], [-ratio, 0.9], [[-ratio / 2] * 2, [0, 0]])

    def test_gmpo_clips_within_the_geometric_mean(self, both):
        ratios = math.sqrt(1.5 * 0.25), math.sqrt(2 * 0.5)
        self.check(both["geometric_clip"], [-ratios[0], ratios[1]], [[0, -ratios[0] / 2], [ratios[1] / 2, 0]])

    def test_cispo_bounds_the_weight_and_keeps_every_step(self, both):
        self.check(both["cispo"], [1.25, -1.25], [[-0.75, -0.25], [0.75, 0.25]])

    def test_sapo_has_a_gate_for_gains_and_one_for_losses(self, both):
        def gate(t, r):
            return 1 / (1 + math.exp(-t * (r - 1)))

        gates = [[gate(t, r) for r in (2, 0.25)] for t in (1, 2)]
        losses = [-4 * sum(gates[0]) / 2, 4 / 2 * sum(gates[1]) / 2]
        slopes = [
            [sign * 2 * s * (1 - s) * r for s, r in zip(row, (2, 0.25), strict=True)]
            for sign, row in zip((-1, 1), gates, strict=True)
        ]
        self.check(both["sapo"], losses, slopes)

    def test_vespo_weighs_by_a_kernel_of_the_product(self, both):
        kernels = 0.5**2 * math.exp(3 * 0.5), 0.5 * math.exp(4 * 0.5)
        losses, slopes = [kernels[0] * 1.5, -kernels[1] * 1.5], [[-kernels[0] / 2] * 2, [kernels[1] / 2] * 2]
        self.check(both["vespo"], losses, slopes)


class TestExtremes:
    @pytest.mark.parametrize("log_ratio", [200.0, 1e4, 1e25, -200.0, -1e25])
    def test_a_finite_log_ratio_has_a_finite_loss_and_slope(self, log_ratio):
        (_, _, advantages), where = batch()
        log_probs = np.zeros(SHAPE)
        log_probs[..., 0] = log_ratio
        for result in everything([log_probs, np.zeros(SHAPE), advantages], where).values():
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))

    @pytest.mark.parametrize("log_ratio", [np.inf, -np.inf])
    def test_without_an_advantage_even_an_infinite_ratio_adds_nothing(self, log_ratio):
        arrays = np.zeros(SHAPE), np.full(SHAPE, -log_ratio), np.zeros(SHAPE[:-1])
        for loss, _, slopes in everything(arrays, np.ones(SHAPE, bool)).values():
            assert loss == 0 and not slopes.any()

    def test_an_impossible_step_adds_nothing_without_an_advantage_and_none_to_vespo_with_one(self):
        arrays = np.full(SHAPE, -np.inf), np.zeros(SHAPE), np.zeros(SHAPE[:-1])
        for loss, _, slopes in everything(arrays, np.ones(SHAPE, bool)).values():
            assert loss == 0 and not slopes.any()
        loss, _, slopes = everything((*arrays[:2], np.ones(SHAPE[:-1])), np.ones(SHAPE, bool))["vespo"]
        assert loss == 0 and not slopes.any()

    def test_a_weight_of_0_silences_even_an_infinite_loss(self):
        (log_probs, behaviour, advantages), where = batch()
        log_probs[0, 0] = -np.inf
        weights = np.ones(SHAPE)
        weights[0, 0] = 0
        loss, _, slopes = everything([log_probs, behaviour, advantages], where, weights)["cispo"]
        assert np.isfinite(loss) and not slopes[0, 0].any() and slopes[0, 2].any()


@pytest.fixture(scope="module")
def of_a_piece():
    """Losses and slopes of three settings, with a divisor."""
    kinds = {"token_mean": CLIP, "sequence_mean": {"level": "sequence", **TENTH}, "constant": {"shape": "none"}}

    @jax.jit
    def run(where, divisors):
        log_probs, *rest = (jnp.asarray(x) for x in batch()[0])
        found = []
        for aggregation, kind in kinds.items():
            options = {**kind, "aggregation": aggregation, "divisor": divisors[aggregation], "where": where}
            loss = lambda x: policy_ratio_loss(x, *rest, reduce_fn=jnp.sum, **options)[0]  # noqa: B023, E731
            found.append(jax.value_and_grad(loss)(log_probs))
        return found

    return run


class TestPieces:
    def test_pieces_of_groups_with_their_divisors_add_up_to_them(self, of_a_piece, results):
        _, where = batch()
        metrics = results["clip"][1]
        divisors = {"token_mean": metrics.num_steps, "sequence_mean": metrics.num_valid}
        divisors = {name: np.asarray(count, np.float32) for name, count in divisors.items()}
        divisors["constant"] = 5 * divisors["sequence_mean"]
        piece = (np.arange(4) < 1)[None, :, None]
        whole, *pieces = (jax.device_get(of_a_piece(where & part, divisors)) for part in (True, piece, ~piece))
        close(jax.tree.map(np.add, *pieces), whole)
        np.testing.assert_allclose(whole[0][0], 2 * results["clip"][0], rtol=1e-5)  # the sum of two groups
        np.testing.assert_allclose(whole[0][1], 2 * results["clip"][2], rtol=1e-5, atol=1e-6)

    def test_a_piece_may_have_no_step_of_a_group(self, of_a_piece):
        _, where = batch()
        divisors = dict.fromkeys(("token_mean", "sequence_mean", "constant"), np.array([3.0, 7.0], np.float32))
        first = (np.arange(2) < 1)[:, None, None]
        whole, *pieces = (jax.device_get(of_a_piece(where & part, divisors)) for part in (True, first, ~first))
        close(jax.tree.map(np.add, *pieces), whole)

    @pytest.mark.parametrize("index", [-1, 2])
    @pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
    def test_a_step_of_no_trajectory_is_refused_or_masked_where_it_is_traced(self, index, aggregation):
        x, advantages = jnp.log(jnp.array([[0.5, 0.25], [0.25, 0.5]])), jnp.array([1.0, -3.0])
        places = jnp.array([[0, 0], [1, index]])

        def loss(places, where=None):
            options = CLIP | {"aggregation": aggregation, "trajectory_of_step": places, "where": where}
            return policy_ratio_loss(x, x - 0.1, advantages, **options)

        with pytest.raises(ValueError, match=r"^trajectory_of_step must be at least 0 and below 2, the number of"):
            loss(places)
        seen = jnp.array([[True, True], [True, False]])
        close(jax.jit(loss)(places), loss(places, seen))
        assert jax.jit(loss)(places)[1].num_steps == 3
        close(jax.jit(lambda: loss(places, seen))(), loss(places, seen))
        everywhere = jnp.ones((2, 2), bool)
        # Constants of a traced function are seen.
        with pytest.raises(ValueError, match=r"^trajectory_of_step must be "):
            jax.jit(lambda: loss(places, everywhere))()

    def test_packed_trajectories_have_the_loss_and_slopes_of_one_in_a_row(self, results):
        arrays, where = batch()
        order = np.array([2, 0, 3, 1])

        def pack(rows):
            return np.asarray(rows)[:, order].reshape(2, 2, 10)

        places = pack(np.broadcast_to(np.arange(4)[:, None], SHAPE))
        log_probs, behaviour = (pack(x) for x in spoil(arrays, where, np.nan)[:2])

        def run(log_probs):
            found = {}
            for name in ("geometric_by_length", "vespo"):
                options = SETTINGS[name] | {"trajectory_of_step": places, "max_steps": 5, "where": pack(where)}
                loss = lambda x: policy_ratio_loss(x, behaviour, arrays[2], **options)  # noqa: B023, E731
                (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(log_probs)
                found[name] = value, metrics, slopes
            return found

        for name, got in jax.device_get(jax.jit(run)(log_probs)).items():
            close(got, (*results[name][:2], pack(results[name][2])))


class TestTransforms:
    def test_vmap_over_groups_traced_bounds_and_no_reduction_give_the_same_at_a_single_step_on_every_level(self):
        arrays, where = batch()
        where[..., 1:] = False

        @jax.jit
        def run(low, high):
            def one(*group, level):
                *group, where = group
                return policy_ratio_loss(
                    *group, where=where, level=level, clip_low=low, clip_high=high, reduce_fn=None
                )

            levels = ("token", "sequence", "geometric_mean")
            return [jax.vmap(partial(one, level=level))(*map(jnp.asarray, arrays), where) for level in levels]

        token, sequence, geometric = jax.device_get(run(0.2, 0.28))
        close(token, sequence)
        close(token[0], geometric[0])
        loss, metrics, _ = everything(arrays, where)["clip"]
        close((token[0].mean(), token[1]), (loss, metrics))
        unbounded, *_, freed = jax.device_get(run(1.0, np.inf))
        close((unbounded[0].mean(), freed[0].mean()), (everything(arrays, where)["none"][0],) * 2)

    def test_trajectories_spread_over_devices_give_the_same_loss_and_gradient(self):
        arrays, where = batch()
        arrays = [np.concatenate([x, x[:, ::-1]], 1).astype(np.float32) for x in (*arrays, where)]

        def losses(factor, log_probs, behaviour, advantages, where, axis_name=None):
            options = {"where": where > 0, "axis_name": axis_name, "level": "sequence"}
            of = partial(policy_ratio_loss, factor * log_probs, behaviour, advantages, **options)
            loss, metrics = of(**TENTH)
            return loss + of(shape="none", aggregation="sequence_mean")[0], metrics

        def local(factor, *arrays):
            loss = partial(losses, axis_name="devices")
            result, gradient = jax.value_and_grad(loss, has_aux=True)(factor, *arrays)
            return result, lax.pmean(gradient, "devices")

        mapped = jax.shard_map(
            local,
            mesh=Mesh(np.array(some_devices(8)), ("devices",)),
            in_specs=(PartitionSpec(), *[PartitionSpec(None, "devices")] * 4),
            out_specs=PartitionSpec(),
        )
        factor = np.float32(1.1)
        expected = jax.jit(jax.value_and_grad(losses, has_aux=True))(factor, *arrays)
        close(jax.jit(mapped)(factor, *arrays), expected)

    def test_gradients_flow_through_the_log_probs_alone_and_half_precision_is_computed_in_single(self):
        x, where = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3), bool)
        options = {"importance_weights": x, "reference_log_probs": x, "kl_coef": 0.1, "where": where, **CLIP}
        loss, metrics = jax.eval_shape(lambda x: policy_ratio_loss(x, x, x[:, 0], **options), x)
        assert {leaf.dtype for leaf in (loss, *metrics[:5])} == {jnp.dtype(jnp.float32)}
        assert metrics.num_valid.dtype == metrics.num_steps.dtype == jnp.int32
        (log_probs, behaviour, advantages), where = batch()

        def others(behaviour, advantages, weights):
            options = {"importance_weights": weights, "where": where, "level": "sequence", **TENTH}
            return policy_ratio_loss(log_probs, behaviour, advantages, **options)[0]

        arrays = behaviour, advantages, np.ones(SHAPE)
        for gradient in jax.device_get(jax.jit(jax.grad(others, argnums=(0, 1, 2)))(*arrays)):
            assert not gradient.any()

    def test_float64_stays_float64(self, x64):
        x = jnp.ones((2, 3))
        loss, metrics = jax.eval_shape(lambda x: policy_ratio_loss(x, x, x[:, 0], level="sequence", **CLIP), x)
        assert {leaf.dtype for leaf in (loss, *metrics[:5])} == {jnp.dtype(jnp.float64)}


class TestPresets:
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
        options = getattr(presets, name).keywords
        np.testing.assert_allclose((1 - options["clip_low"], 1 + options["clip_high"]), (low, high), rtol=1e-12)

    def test_all_differ_and_what_a_caller_sets_replaces_what_is_preset(self):
        arrays, where = batch()

        @jax.jit
        def run():
            losses = {name: getattr(presets, name)(*arrays, where=where)[0] for name in presets.__all__}
            return losses, presets.dapo(*arrays, where=where, clip_high=0.2, aggregation="sequence_mean")[0]

        losses, replaced = jax.device_get(run())
        assert sorted(losses) == ["cispo", "dapo", "dr_grpo", "gmpo", "grpo", "gspo", "sapo", "vespo"]
        assert len({round(float(loss), 6) for loss in losses.values()}) == 8
        np.testing.assert_allclose(replaced, losses["grpo"], rtol=1e-6)


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

    def test_steps_without_trajectories_are_refused(self):
        with pytest.raises(
            ValueError, match="log_probs must have an axis of trajectories and one of steps, got shape"
        ):
            policy_ratio_loss(np.zeros(3), np.zeros(3), np.zeros(()), **CLIP)

    def test_a_reduction_that_is_no_function_is_refused(self):
        with pytest.raises(TypeError, match=r"reduce_fn must be a function such as jnp\.sum, or None, got 'mean'"):
            policy_ratio_loss(*self.ARRAYS, reduce_fn="mean", **CLIP)

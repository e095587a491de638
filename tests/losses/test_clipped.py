"""PPO's clipped surrogate and value loss, and GRPO: values, gradients, masks, extremes, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from haepo_jax import (
    AGGREGATIONS,
    ClippedSurrogateMetrics,
    ClippedValueMetrics,
    clipped_surrogate_loss,
    clipped_value_loss,
    grpo_loss,
)

GARBAGE = [np.nan, np.inf, -np.inf]
SHAPES = [(), (6,), (2, 3, 6)]
GROUPS = [(3, 5), (2, 4, 5), (2, 2, 3, 5)]
COEFFICIENTS = {"clip_epsilon": 0.2, "kl_coef": 0.3}
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True, database=None)
SMALL = arrays(np.float32, 6, elements=st.floats(-3, 3, width=32))
LARGE = arrays(np.float32, 6, elements=st.floats(-1e4, 1e4, width=32))
TABLE = arrays(np.float32, (4, 3), elements=st.floats(-3, 3, width=32))
MASK = arrays(bool, 6)
ORDER = st.permutations(range(6))

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))


def elements(shape, seed=0, spread=0.3):
    """Random log-probabilities, those of a nearby behaviour policy, advantages, and a mask."""
    rng = np.random.default_rng(seed)
    log_probs = -rng.exponential(size=shape)
    where = np.asarray(rng.random(shape) < 0.7)
    if shape:
        where[..., 0] = True
    return log_probs, log_probs + spread * rng.normal(size=shape), np.asarray(rng.normal(size=shape)), where


@partial(jax.jit, static_argnames="function")
def evaluate(function, *arrays, **options):
    """Loss and metrics, and the gradient with respect to the first array."""
    return jax.value_and_grad(lambda x: function(x, *arrays[1:], **options), has_aux=True)(arrays[0])


surrogate = partial(evaluate, clipped_surrogate_loss)
value = partial(evaluate, clipped_value_loss)
BOTH = pytest.mark.parametrize("function", [clipped_surrogate_loss, clipped_value_loss])


def check_against(expected, metrics, rtol=1e-5, atol=1e-6):
    for name, got in metrics._asdict().items():
        np.testing.assert_allclose(got, getattr(expected, name), rtol=rtol, atol=atol, err_msg=name)


class TestSurrogate:
    # ratios 1/2, 1 and 2 for each sign of the advantage
    LOG_RATIOS = np.log([0.5, 1, 2, 0.5, 1, 2])
    ADVANTAGES = np.array([3.0, 3, 3, -3, -3, -3])
    GAINS = (1.5, 3, 3.75, -2.25, -3, -6)  # 2 held at 1.25 where it gains, 1/2 at 0.75 where it loses
    HELD = (0, 0, 1, 1, 0, 0)

    def test_by_hand(self):
        behaviour = np.full(6, -1.0)
        (loss, metrics), gradient = surrogate(
            behaviour + self.LOG_RATIOS, behaviour, self.ADVANTAGES, clip_epsilon=0.25
        )
        np.testing.assert_allclose(loss, -np.mean(self.GAINS), rtol=1e-6)
        # d(-r A) / d log pi = -r A, where nothing is held
        np.testing.assert_allclose(gradient, -np.where(self.HELD, 0, self.GAINS) / 6, rtol=1e-6)
        np.testing.assert_allclose(metrics.clip_fraction, 1 / 3, rtol=1e-6)
        np.testing.assert_allclose([metrics.mean_ratio, metrics.max_ratio], [3.5 / 3, 2], rtol=1e-6)
        # of the mean ratio 3.5 / 3, less 1; the log-ratios sum to 0
        np.testing.assert_allclose(metrics.approx_kl, 0.5 / 3, rtol=1e-6)
        assert metrics.num_valid == 6

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    @pytest.mark.parametrize("clip_epsilon", [0.1, 0.5, 1.5])
    def test_matches_the_reference(self, reference, shape, garbage, clip_epsilon):
        *arrays, where = elements(shape)
        if garbage is None or not shape:
            where = np.ones(shape, bool)
        losses, held = reference.surrogate(*arrays, clip_epsilon)
        ratios = np.exp(arrays[0] - arrays[1])
        spoilt = [np.where(where, array, 0 if garbage is None else garbage) for array in arrays]
        (loss, metrics), gradient = surrogate(*spoilt, clip_epsilon=clip_epsilon, where=where)
        np.testing.assert_allclose(loss, losses[where].mean(), rtol=1e-5, atol=1e-6)
        slope = np.where(where & ~held, -ratios * arrays[2], 0) / where.sum()
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6)
        ratios = ratios[where]
        expected = ClippedSurrogateMetrics(
            clip_fraction=held[where].mean(),
            approx_kl=(ratios - 1 - np.log(ratios)).mean(),
            mean_ratio=ratios.mean(),
            max_ratio=ratios.max(),
            num_valid=where.sum(),
        )
        check_against(expected, metrics)

    @pytest.mark.parametrize("clip_epsilon", [0.1, 0.2, 0.5])
    def test_agrees_with_rlax(self, rlax, clip_epsilon):
        log_probs, behaviour, advantages, _ = elements((200,))
        advantages[::7] = 0
        log_probs, behaviour, advantages = (x.astype(np.float32) for x in (log_probs, behaviour, advantages))

        def theirs(log_probs):
            return rlax.clipped_surrogate_pg_loss(jnp.exp(log_probs - behaviour), advantages, clip_epsilon)

        (loss, metrics), gradient = surrogate(log_probs, behaviour, advantages, clip_epsilon=clip_epsilon)
        assert 0 < metrics.clip_fraction < 1
        np.testing.assert_allclose(loss, theirs(log_probs), rtol=1e-5)
        np.testing.assert_allclose(gradient, jax.grad(theirs)(log_probs), rtol=1e-5, atol=1e-8)

    def test_on_fresh_samples_has_the_gradient_of_reinforce(self):
        x, advantages = jnp.array([-1.0, -2.0]), jnp.array([3.0, -5.0])
        (loss, metrics), gradient = surrogate(x, x, advantages, clip_epsilon=0.2)
        assert loss == 1
        np.testing.assert_array_equal(gradient, -advantages / 2)
        assert metrics.clip_fraction == metrics.approx_kl == 0

    @pytest.mark.parametrize("sign", [1, -1])
    def test_on_the_edge_of_the_interval_the_gradient_is_that_of_the_inside(self, sign):
        edge = jnp.where(sign > 0, 1.5, 0.5)
        (_, metrics), gradient = surrogate(jnp.log(edge), jnp.zeros(()), jnp.float32(sign), clip_epsilon=0.5)
        np.testing.assert_allclose(gradient, -sign * edge, rtol=1e-6)
        assert metrics.clip_fraction == 0

    def test_behaviour_and_advantages_are_constants_to_the_gradient(self):
        x = jnp.array([0.1, 0.2])
        loss = partial(clipped_surrogate_loss, clip_epsilon=0.9)
        for gradient in jax.grad(lambda *arrays: loss(*arrays)[0], argnums=(1, 2))(x, x / 2, x):
            np.testing.assert_array_equal(gradient, [0, 0])

    def test_the_estimate_of_the_divergence_is_right_on_average(self):
        # from every action of a policy over three, weighted by how often the behaviour policy takes it
        policy, behaviour = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
        actions = np.repeat(np.arange(3), [6, 3, 1])
        (_, metrics), _ = surrogate(np.log(policy)[actions], np.log(behaviour)[actions], np.ones(10), clip_epsilon=0.2)
        np.testing.assert_allclose(metrics.approx_kl, (behaviour * np.log(behaviour / policy)).sum(), rtol=1e-5)
        np.testing.assert_allclose(metrics.mean_ratio, 1, rtol=1e-6)

    def test_the_estimate_of_a_small_divergence_keeps_its_digits(self):
        (_, metrics), _ = surrogate(np.full(3, 1e-3), np.zeros(3), np.ones(3), clip_epsilon=0.2)
        np.testing.assert_allclose(metrics.approx_kl, np.expm1(1e-3) - 1e-3, rtol=1e-3)

    def test_check_grads(self, x64):
        *arrays, where = elements((2, 6))
        arrays[1][0, 0] = arrays[0][0, 0] - 25  # on the tangent
        arrays[2][0, 0] = -1

        def loss(log_probs, clip_epsilon):
            return clipped_surrogate_loss(log_probs, *arrays[1:], clip_epsilon=clip_epsilon, where=where)[0]

        check_grads(jax.jit(loss), (arrays[0], 0.2), order=1)

    @pytest.mark.parametrize("log_ratio", [21.0, 200.0, 1e4, 1e25, np.inf])
    def test_a_ratio_that_would_overflow_is_brought_back_where_it_loses(self, log_ratio):
        (loss, metrics), gradient = surrogate(
            jnp.array([log_ratio, 0]), jnp.zeros(2), jnp.array([-2.0, 1]), clip_epsilon=0.2
        )
        np.testing.assert_allclose(gradient, [np.exp(20), -0.5], rtol=1e-6)  # the slope at 20
        expected = (2 * np.exp(20) * (1 + log_ratio - 20) - 1) / 2
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        assert np.isfinite(loss) == np.isfinite(log_ratio)
        assert metrics.clip_fraction == 0 and not any(np.isnan(value) for value in metrics)

    @pytest.mark.parametrize("log_ratio", [200.0, 1e4, 3e30, np.inf])
    def test_a_ratio_that_would_overflow_is_held_where_it_gains(self, log_ratio):
        (loss, metrics), gradient = surrogate(jnp.array([log_ratio]), jnp.zeros(1), jnp.array([2.0]), clip_epsilon=0.5)
        assert loss == -3 and gradient[0] == 0 and metrics.clip_fraction == 1

    @pytest.mark.parametrize("log_ratio", [-200.0, -1e4, -np.inf])
    @pytest.mark.parametrize("advantage", [2.0, -2.0])
    def test_a_ratio_that_underflows_is_zero(self, log_ratio, advantage):
        (loss, _), gradient = surrogate(jnp.array([log_ratio]), jnp.zeros(1), jnp.array([advantage]), clip_epsilon=0.5)
        assert loss == max(0, -advantage * 0.5) and gradient[0] == 0

    @pytest.mark.parametrize("log_ratio", [200.0, -200.0])
    def test_without_an_advantage_there_is_no_gradient(self, log_ratio):
        (loss, _), gradient = surrogate(jnp.array([log_ratio]), jnp.zeros(1), jnp.zeros(1), clip_epsilon=0.5)
        assert loss == gradient[0] == 0

    @PROPERTY
    @given(LARGE, LARGE, LARGE, MASK)
    def test_finite_input_gives_finite_output(self, log_probs, behaviour, advantages, where):
        result = surrogate(log_probs, behaviour, advantages, clip_epsilon=0.2, where=where)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))

    @PROPERTY
    @given(SMALL, SMALL, SMALL, MASK)
    def test_is_never_below_the_unclipped_one(self, log_probs, behaviour, advantages, where):
        arrays = log_probs, behaviour, advantages
        clipped, free = (surrogate(*arrays, clip_epsilon=e, where=where)[0][0] for e in (0.2, 1e3))
        assert clipped >= free - 1e-4 * (1 + abs(free))

    def test_holds_what_is_past_the_edge_in_the_direction_of_its_advantage(self):
        log_probs, behaviour, advantages, _ = elements((200,))
        _, gradient = surrogate(log_probs, behaviour, advantages, clip_epsilon=0.2)
        ratios = np.exp(log_probs - behaviour)
        held = np.asarray(gradient) == 0
        past = np.where(advantages > 0, ratios > 1.2, ratios < 0.8)
        np.testing.assert_array_equal(held, past)


class TestValue:
    @pytest.mark.parametrize(
        ("old", "target", "expected", "slope"),
        [
            (0.0, 4.0, 4.5, 0),  # 3 held at 1, further from 4
            (0.0, 0.0, 4.5, 3),  # 3 is the further
            (2.5, 4.0, 0.5, -1),  # within 1 of where it was
            (2.0, 4.0, 0.5, -1),  # on the edge
            (6.0, 4.0, 0.5, -1),  # 3 is as near as 5, and not held
            (9.0, 4.0, 8.0, 0),  # 3 held at 8, further from 4
        ],
    )
    def test_by_hand(self, old, target, expected, slope):
        (loss, metrics), gradient = value(*(jnp.array([x]) for x in (3.0, old, target)), clip_epsilon=1.0)
        assert loss == expected and gradient[0] == slope
        assert metrics.clip_fraction == (slope == 0) and metrics.num_valid == 1

    def test_without_a_clip_is_half_the_squared_error(self):
        arrays = jnp.array([3.0, 1.0]), jnp.array([0.0, 9.0]), jnp.array([4.0, -1.0])
        (loss, metrics), gradient = value(*arrays)
        assert loss == (1 + 4) / 4 and metrics.clip_fraction == 0
        np.testing.assert_array_equal(gradient, [-0.5, 1])

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    @pytest.mark.parametrize("clip_epsilon", [None, 0.1, 0.5])
    def test_matches_the_reference(self, reference, shape, garbage, clip_epsilon):
        *arrays, where = elements(shape)
        if garbage is None or not shape:
            where = np.ones(shape, bool)
        epsilon = np.inf if clip_epsilon is None else clip_epsilon
        losses = reference.value_error(*arrays, epsilon)
        held = losses > (arrays[0] - arrays[2]) ** 2 / 2
        spoilt = [np.where(where, array, 0 if garbage is None else garbage) for array in arrays]
        (loss, metrics), gradient = value(*spoilt, clip_epsilon=clip_epsilon, where=where)
        np.testing.assert_allclose(loss, losses[where].mean(), rtol=1e-5, atol=1e-6)
        slope = np.where(where & ~held, arrays[0] - arrays[2], 0) / where.sum()
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6)
        check_against(ClippedValueMetrics(held[where].mean(), where.sum()), metrics)

    def test_behaviour_and_targets_are_constants_to_the_gradient(self):
        x = jnp.array([0.1, 2.0])
        loss = partial(clipped_value_loss, clip_epsilon=0.5)
        for gradient in jax.grad(lambda *arrays: loss(*arrays)[0], argnums=(1, 2))(x, x / 2, 3 * x):
            np.testing.assert_array_equal(gradient, [0, 0])

    @pytest.mark.parametrize("clip_epsilon", [None, 0.2])
    def test_check_grads(self, x64, clip_epsilon):
        *arrays, where = elements((2, 6))
        loss = partial(clipped_value_loss, clip_epsilon=clip_epsilon, where=where)
        check_grads(jax.jit(lambda values: loss(values, *arrays[1:])[0]), (arrays[0],), order=1)

    @PROPERTY
    @given(LARGE, LARGE, LARGE, MASK)
    def test_is_never_below_the_unclipped_one_and_finite(self, values, behaviour, targets, where):
        arrays = values, behaviour, targets
        results = [value(*arrays, clip_epsilon=e, where=where) for e in (0.2, None)]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))
        assert results[0][0][0] >= results[1][0][0] * (1 - 1e-5)


@BOTH
class TestElements:
    """What the two losses of single elements have in common."""

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("spoilt", [0, 1, 2])
    def test_a_masked_element_equals_a_dropped_one(self, function, garbage, spoilt):
        *arrays, where = elements((12,))
        dropped = evaluate(function, *(array[where] for array in arrays), clip_epsilon=0.2)
        arrays[spoilt] = np.where(where, arrays[spoilt], garbage)
        result, gradient = evaluate(function, *arrays, clip_epsilon=0.2, where=where)
        close((result, gradient[where]), dropped)
        np.testing.assert_array_equal(gradient[~where], 0)

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_masked_garbage_does_not_matter_to_the_gradient_of_the_clip(self, function, garbage):
        *arrays, where = elements((12,))

        def slope(arrays):
            return jax.grad(lambda epsilon: function(*arrays, clip_epsilon=epsilon, where=where)[0])(0.2)

        spoilt = slope([np.where(where, array, garbage) for array in arrays])
        np.testing.assert_array_equal(spoilt, slope(arrays))
        assert spoilt != 0

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, function, garbage, shape):
        x = jnp.full(shape, garbage, jnp.float32)
        for leaf in jax.tree.leaves(evaluate(function, x, x, x, clip_epsilon=0.2, where=jnp.zeros(shape, bool))):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))

    def test_every_shape_of_the_same_elements_gives_the_same(self, function):
        arrays = elements((12,))

        def shaped(*shape):
            *values, where = (array.reshape(shape) for array in arrays)
            result, gradient = evaluate(function, *values, clip_epsilon=0.2, where=where)
            return result, gradient.reshape(-1)

        close(shaped(2, 3, 2), shaped(12))
        close(shaped(4, 3), shaped(12))

    @pytest.mark.parametrize("seed", range(3))
    def test_permuting_elements_permutes_the_gradient(self, function, seed):
        *arrays, where = elements((12,))
        order = np.random.default_rng(seed).permutation(12)
        result, gradient = evaluate(function, *arrays, clip_epsilon=0.2, where=where)
        permuted = evaluate(function, *(array[order] for array in arrays), clip_epsilon=0.2, where=where[order])
        close(permuted, (result, gradient[order]))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, function, dtype):
        loss, metrics = function(*[jnp.ones(3, dtype)] * 3, clip_epsilon=0.2)
        assert {leaf.dtype for leaf in (loss, *metrics[:-1])} == {jnp.dtype(jnp.float32)}
        assert metrics.num_valid.dtype == jnp.int32

    @pytest.mark.parametrize("wide", [0, 1, 2])
    def test_float64_stays_float64(self, function, x64, wide):
        arrays = [jnp.ones(3, jnp.float32)] * 3
        arrays[wide] = arrays[wide].astype(jnp.float64)
        loss, metrics = function(*arrays, clip_epsilon=0.2)
        assert {leaf.dtype for leaf in (loss, *metrics[:-1])} == {jnp.dtype(jnp.float64)}
        assert metrics.num_valid.dtype == jnp.int32

    def test_further_clips_do_not_compile_again(self, function):
        traces = []

        @jax.jit
        def loss(epsilon):
            traces.append(epsilon)
            return function(jnp.array([0.9]), jnp.zeros(1), jnp.ones(1), clip_epsilon=epsilon)[0]

        assert len({float(loss(epsilon)) for epsilon in (0.1, 0.2, 0.3)}) == 3
        assert len(traces) == 1

    @pytest.mark.parametrize("clip_epsilon", [0, -0.2, float("nan"), jnp.float32(0)])
    def test_refuses_a_clip_that_is_not_positive(self, function, clip_epsilon):
        with pytest.raises(ValueError, match="clip_epsilon must be positive, got"):
            function(*[jnp.zeros(3)] * 3, clip_epsilon=clip_epsilon)

    @pytest.mark.parametrize("shape", [(1,), (3,)])
    def test_refuses_a_clip_that_would_broadcast(self, function, shape):
        with pytest.raises(ValueError, match="clip_epsilon must be a scalar, got an array of shape"):
            function(*[jnp.zeros(3)] * 3, clip_epsilon=jnp.ones(shape))

    def test_refuses_a_mask_that_is_not_boolean(self, function):
        with pytest.raises(TypeError, match="where must be boolean"):
            function(*[jnp.zeros(3)] * 3, clip_epsilon=0.2, where=jnp.ones(3))

    @pytest.mark.parametrize("position", range(4))
    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
    def test_refuses_shapes_that_would_broadcast(self, function, position, shape):
        names = {
            clipped_surrogate_loss: ("log_probs", "behaviour_log_probs", "advantages", "where"),
            clipped_value_loss: ("values", "behaviour_values", "targets", "where"),
        }[function]
        arrays = dict.fromkeys(names[:3], jnp.zeros((2, 3))) | {"where": jnp.ones((2, 3), bool)}
        arrays[names[position]] = jnp.ones(shape, arrays[names[position]].dtype)
        with pytest.raises(AssertionError) as error:
            function(**arrays, clip_epsilon=0.2)
        assert "(2, 3)" in str(error.value) and f"{names[position]} {shape}" in str(error.value)


def group(shape, seed=0, garbage=None):
    """Random log-probabilities of three policies and advantages of groups; some steps are masked, and more:

    the second trajectory of the first group is, and from two groups on all of the last group.
    """
    rng = np.random.default_rng(seed)
    log_probs, behaviour, advantages, where = elements(shape, seed)
    reference, advantages = log_probs + 0.5 * rng.normal(size=shape), advantages[..., 0]
    where[(0,) * (len(shape) - 2) + (1,)] = False
    if len(shape) > 2:
        where[(-1,) * (len(shape) - 2)] = False
    if garbage is not None:
        log_probs, behaviour, reference = (np.where(where, x, garbage) for x in (log_probs, behaviour, reference))
        advantages = np.where(where.any(-1), advantages, garbage)
    return (log_probs, behaviour, advantages, reference), where


@partial(jax.jit, static_argnames="aggregation")
def _grpo(arrays, where, options, aggregation):
    def loss(log_probs):
        return grpo_loss(log_probs, *arrays[1:], where=where, aggregation=aggregation, **options)

    return jax.value_and_grad(loss, has_aux=True)(arrays[0])


def grpo(*arrays, where=None, aggregation="sequence_mean", **options):
    return _grpo(arrays, where, COEFFICIENTS | options, aggregation)


with_numbers = jax.jit(grpo_loss, static_argnames=("clip_epsilon", "kl_coef", "aggregation"))
"""Settings are numbers, as where nothing is swept; of one shape, tests share a program."""


@pytest.fixture(params=AGGREGATIONS)
def aggregation(request):
    return request.param


class TestGrpo:
    # Two trajectories of 3 and 1 valid steps out of 4, with the advantages 1 and -2: losses -1 -1 -1 and 2.
    WHERE = ((True, True, True, False), (False, True, False, False))

    @pytest.mark.parametrize(
        ("aggregation", "expected", "slopes"),
        [
            ("sequence_mean", (-1 + 2) / 2, (-1 / 6, 1)),
            ("token_mean", (-3 + 2) / 4, (-1 / 4, 2 / 4)),
            ("constant", (-3 + 2) / 8, (-1 / 8, 2 / 8)),
        ],
    )
    def test_by_hand(self, aggregation, expected, slopes):
        x, where = np.zeros((2, 4)), np.array(self.WHERE)
        (loss, metrics), gradient = grpo(x, x, np.array([1.0, -2]), x, where=where, aggregation=aggregation)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, np.where(where, np.array(slopes)[:, None], 0), rtol=1e-6)
        assert metrics.policy_loss == loss and metrics.num_valid == 2 and metrics.num_steps == 4
        assert metrics.kl == metrics.clip_fraction == metrics.approx_kl == 0 and metrics.mean_ratio == 1

    def test_penalty_by_hand(self):
        # the reference is twice and half as likely: 2 - log 2 - 1 and 1/2 + log 2 - 1, slopes 1 - 2 and 1 - 1/2
        x, reference = jnp.zeros((1, 2)), jnp.log(jnp.array([[2.0, 0.5]]))
        (loss, metrics), gradient = grpo(x, x, jnp.zeros(1), reference, kl_coef=0.5)
        np.testing.assert_allclose(metrics.kl, 0.25, rtol=1e-6)
        np.testing.assert_allclose(loss, 0.125, rtol=1e-6)
        np.testing.assert_allclose(gradient, [[-0.25, 0.125]], rtol=1e-6)

    @pytest.mark.parametrize("shape", GROUPS)
    @pytest.mark.parametrize("garbage", [None, *GARBAGE])
    @pytest.mark.parametrize("with_reference", [False, True])
    def test_matches_the_reference(self, reference, shape, garbage, with_reference, aggregation):
        clean, where = group(shape)
        spoilt, _ = group(shape, garbage=garbage)
        if garbage is None:
            where = np.ones(shape, bool)
        options = dict(COEFFICIENTS)
        if not with_reference:
            clean, spoilt = (*clean[:3], None), (*spoilt[:3], None)
            options["kl_coef"] = 0
        expected = reference.grpo(*clean, **options, where=where, aggregation=aggregation)
        loss, metrics = with_numbers(*spoilt, where=where, aggregation=aggregation, **options)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-4, atol=1e-6)
        check_against(expected, metrics, rtol=1e-4)

    def test_matches_the_reference_in_double_precision(self, reference, x64, aggregation):
        clean, where = group((2, 2, 3, 5))
        (loss, metrics), _ = grpo(*group((2, 2, 3, 5), garbage=np.nan)[0], where=where, aggregation=aggregation)
        expected = reference.grpo(*clean, **COEFFICIENTS, where=where, aggregation=aggregation)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-12)
        check_against(expected, metrics, rtol=1e-11, atol=1e-14)

    def test_the_default_is_sequence_mean(self):
        arrays, where = group((2, 4, 5))
        loss, _ = grpo_loss(*arrays, where=where, **COEFFICIENTS)
        np.testing.assert_allclose(loss, grpo(*arrays, where=where)[0][0], rtol=1e-6)
        assert abs(loss - grpo(*arrays, where=where, aggregation="token_mean")[0][0]) > 1e-3

    def test_aggregations_agree_where_nothing_is_masked(self):
        arrays, _ = group((2, 4, 5))
        results = [grpo(*arrays, aggregation=aggregation) for aggregation in AGGREGATIONS]
        close(results[1], results[0])
        close(results[2], results[0])

    def test_a_single_step_is_the_clipped_surrogate(self):
        (log_probs, behaviour, advantages, _), _ = group((4, 1))
        (loss, metrics), gradient = _grpo(
            (log_probs, behaviour, advantages, log_probs), None, {"clip_epsilon": 0.2, "kl_coef": 0.0}, "sequence_mean"
        )
        (expected, terms), slope = surrogate(log_probs[:, 0], behaviour[:, 0], advantages, clip_epsilon=0.2)
        close((loss, gradient[:, 0]), (expected, slope))
        close(
            (metrics.clip_fraction, metrics.approx_kl, metrics.mean_ratio),
            (terms.clip_fraction, terms.approx_kl, terms.mean_ratio),
        )

    def test_loss_is_the_mean_over_groups_of_its_parts(self, aggregation):
        arrays, _ = group((2, 4, 5))
        (loss, metrics), _ = grpo(*arrays, aggregation=aggregation)
        np.testing.assert_allclose(loss, (metrics.policy_loss + 0.3 * metrics.kl).mean(), rtol=1e-6)

    def test_check_grads(self, x64, aggregation):
        (log_probs, *arrays), where = group((2, 3, 5))

        def loss(log_probs, clip_epsilon, kl_coef):
            options = {"clip_epsilon": clip_epsilon, "kl_coef": kl_coef, "where": where, "aggregation": aggregation}
            return grpo_loss(log_probs, *arrays, **options)[0]

        check_grads(jax.jit(loss), (log_probs, 0.2, 0.3), order=1)

    def test_gradients_flow_through_the_log_probs_alone(self):
        arrays, where = group((2, 4, 5))
        loss = lambda *arrays: grpo_loss(*arrays, **COEFFICIENTS, where=where)[0]  # noqa: E731
        for gradient in jax.grad(loss, argnums=(1, 2, 3))(*map(jnp.asarray, arrays)):
            np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))

    def test_kl_coef_does_nothing_at_the_reference_and_draws_to_it_from_elsewhere(self):
        (log_probs, behaviour, advantages, reference), _ = group((4, 5))
        _, without = grpo(log_probs, behaviour, advantages, reference, kl_coef=0.0)
        _, at_reference = grpo(log_probs, behaviour, advantages, log_probs)
        np.testing.assert_array_equal(at_reference, without)
        _, away = grpo(log_probs, behaviour, 0 * advantages, reference)
        np.testing.assert_array_equal(np.sign(away), np.sign(log_probs - reference))

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("spoilt", range(4))
    def test_masked_garbage_does_not_matter(self, garbage, spoilt, aggregation):
        clean, where = group((2, 4, 5))
        arrays = list(clean)
        arrays[spoilt] = group((2, 4, 5), garbage=garbage)[0][spoilt]
        got = grpo(*arrays, where=where, aggregation=aggregation)
        jax.tree.map(np.testing.assert_array_equal, got, grpo(*clean, where=where, aggregation=aggregation))
        np.testing.assert_array_equal(got[1][~where], 0)

    def test_a_masked_trajectory_equals_a_dropped_one(self, aggregation):
        arrays, where = group((4, 5), garbage=np.nan)
        kept = np.array([0, 2, 3])
        assert not where[1].any() and where[kept].any(-1).all()
        dropped = grpo(*(array[kept] for array in arrays), where=where[kept], aggregation=aggregation)
        result, gradient = grpo(*arrays, where=where, aggregation=aggregation)
        close((result, gradient[kept]), dropped)

    @pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
    def test_a_step_masked_in_all_trajectories_equals_a_dropped_one(self, aggregation):
        # `constant` counts the length of the time axis
        (log_probs, behaviour, advantages, reference), where = group((4, 5))
        where[:, 2], kept = False, np.array([0, 1, 3, 4])
        steps = (log_probs[:, kept], behaviour[:, kept], advantages, reference[:, kept])
        dropped = grpo(*steps, where=where[:, kept], aggregation=aggregation)
        result, gradient = grpo(log_probs, behaviour, advantages, reference, where=where, aggregation=aggregation)
        close((result, gradient[:, kept]), dropped)

    def test_groups_are_independent(self, aggregation):
        arrays, where = group((3, 4, 5))
        where = np.where(where.any((-2, -1), keepdims=True), where, True)
        (loss, metrics), gradient = grpo(*arrays, where=where, aggregation=aggregation)
        alone = [grpo(*(x[i] for x in arrays), where=where[i], aggregation=aggregation) for i in range(3)]
        np.testing.assert_allclose(loss, np.mean([result[0][0] for result in alone]), rtol=1e-5)
        close(jax.tree.map(lambda *rows: np.stack(rows), *[result[0][1] for result in alone]), metrics)
        close(np.stack([result[1] for result in alone]) / 3, gradient)

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    def test_an_all_masked_group_contributes_nothing(self, garbage, aggregation):
        arrays, where = group((2, 4, 5))
        for array in arrays:
            array[1] = garbage
        (loss, metrics), gradient = grpo(*arrays, where=where, aggregation=aggregation)
        alone, slope = grpo(*(array[0] for array in arrays), where=where[0], aggregation=aggregation)
        close((loss, gradient[0]), (alone[0], slope))
        for leaf in (gradient, *metrics):
            np.testing.assert_array_equal(leaf[1], np.zeros(leaf[1].shape))

    @pytest.mark.parametrize("garbage", [0.0, *GARBAGE])
    @pytest.mark.parametrize("shape", GROUPS)
    def test_all_masked_gives_loss_zero_and_gradient_zero(self, garbage, shape, aggregation):
        x = jnp.full(shape, garbage, jnp.float32)
        got = grpo(x, x, x[..., 0], x, where=jnp.zeros(shape, bool), aggregation=aggregation)
        for leaf in jax.tree.leaves(got):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))

    @PROPERTY
    @given(TABLE, TABLE, TABLE, arrays(bool, (4, 3)), st.permutations(range(4)), st.sampled_from(AGGREGATIONS))
    def test_permuting_trajectories_changes_nothing(self, log_probs, behaviour, reference, where, order, aggregation):
        arrays, order = (log_probs, behaviour, reference[:, 0], reference), np.array(order)
        result, gradient = grpo(*arrays, where=where, aggregation=aggregation)
        permuted = grpo(*(x[order] for x in arrays), where=where[order], aggregation=aggregation)
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
        jax.tree.map(close, permuted, (result, gradient[order]))

    @PROPERTY
    @given(TABLE, TABLE, TABLE, arrays(bool, (4, 3)), st.sampled_from([1, 1e3]), st.sampled_from(AGGREGATIONS))
    def test_finite_input_gives_finite_output(self, log_probs, behaviour, reference, where, scale, aggregation):
        arrays = scale * log_probs, behaviour, scale * reference[:, 0], scale * reference
        got = grpo(*arrays, where=where, aggregation=aggregation)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
        assert got[0][1].kl >= 0 and got[0][1].approx_kl >= 0

    @pytest.mark.parametrize("log_ratio", [200.0, 1e4, np.inf])
    def test_what_the_reference_does_and_the_policy_does_not_pulls_without_overflow(self, log_ratio):
        x = jnp.array([[-log_ratio]])
        (loss, _), gradient = grpo(
            x, x if np.isfinite(log_ratio) else jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros((1, 1))
        )
        assert not np.isnan(loss)
        np.testing.assert_allclose(gradient, [[-0.3 * np.expm1(20)]], rtol=1e-6)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    @pytest.mark.parametrize("advantages_dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
    def test_narrow_input_gives_float32(self, dtype, advantages_dtype):
        x = jnp.ones((2, 3), dtype)
        self.check(x, x, jnp.ones(2, advantages_dtype), x, expected=jnp.float32)

    @pytest.mark.parametrize("wide", range(4))
    def test_float64_stays_float64(self, x64, wide):
        x = jnp.ones((2, 3), jnp.float32)
        arrays = [x, x, x[:, 0], x]
        arrays[wide] = arrays[wide].astype(jnp.float64)
        self.check(*arrays, expected=jnp.float64)

    def check(self, *arrays, expected):
        (loss, metrics), gradient = jax.eval_shape(grpo, *arrays)
        assert {leaf.dtype for leaf in (loss, *metrics[:-2])} == {jnp.dtype(expected)}
        assert metrics.num_valid.dtype == metrics.num_steps.dtype == jnp.int32
        assert gradient.dtype == arrays[0].dtype

    def test_vmap_over_settings_equals_a_loop(self, aggregation):
        arrays, where = group((2, 4, 5))
        clips, coefficients = np.array([0.1, 0.2, 0.5], np.float32), np.array([0, 0.1, 1], np.float32)

        def run(clip_epsilon, kl_coef):
            options = {"clip_epsilon": clip_epsilon, "kl_coef": kl_coef, "aggregation": aggregation}
            return grpo_loss(*arrays, where=where, **options)

        swept = jax.jit(jax.vmap(run))(clips, coefficients)
        for member in range(3):
            got = jax.tree.map(lambda value: value[member], swept)  # noqa: B023
            close(got, run(clips[member], coefficients[member]))


class TestPacked:
    """Trajectories that lie one after the other in fewer rows."""

    def test_packed_trajectories_have_the_loss_and_slopes_of_one_in_a_row(self, aggregation):
        (log_probs, behaviour, advantages, reference), where = group((2, 4, 6))
        order = (2, 0, 3, 1)  # of the trajectories, two in each of two rows, with a step between them
        kept = slice(None), order

        def pack(rows, fill):
            gap = np.full((2, 2, 1), fill, rows.dtype)
            first, second = rows[kept].reshape(2, 2, 2, 6).swapaxes(0, 2).swapaxes(1, 2)
            return np.concatenate([first, gap, second], axis=-1)

        places = np.broadcast_to(np.arange(4)[None, :, None], where.shape)
        options = COEFFICIENTS | {"aggregation": aggregation}
        packed = {"where": pack(where, False), "trajectory_of_step": pack(places, 77), "max_steps": 6}
        arrays = [pack(values, np.nan) for values in (log_probs, behaviour, reference)]

        def loss_of_rows(log_probs):
            return grpo_loss(log_probs, behaviour, advantages, reference, where=where, **options)

        def loss_of_packed(log_probs):
            return grpo_loss(log_probs, arrays[1], advantages, arrays[2], **packed, **options)

        (expected, metrics), slopes = jax.value_and_grad(loss_of_rows, has_aux=True)(log_probs)
        (loss, found), packed_slopes = jax.value_and_grad(loss_of_packed, has_aux=True)(arrays[0])
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(packed_slopes, pack(np.asarray(slopes), 0), rtol=1e-5, atol=1e-8)
        for name, value in found._asdict().items():
            np.testing.assert_allclose(value, getattr(metrics, name), rtol=1e-5, atol=1e-7)

    def test_places_that_are_no_integers_or_of_another_shape_are_refused(self):
        x = jnp.zeros((2, 3))
        with pytest.raises(TypeError, match="trajectory_of_step must be integers, got dtype float32"):
            grpo_loss(x, x, jnp.zeros(5), clip_epsilon=0.2, kl_coef=0, trajectory_of_step=x)
        with pytest.raises(AssertionError, match=r"no broadcasting here: .*trajectory_of_step \(3,\)"):
            grpo_loss(x, x, jnp.zeros(5), clip_epsilon=0.2, kl_coef=0, trajectory_of_step=jnp.zeros(3, jnp.int32))


class TestGrpoErrors:
    ARRAYS = (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2))

    def test_kl_coef_without_a_reference_is_refused(self):
        sentence = r"kl_coef 0.3 needs reference_log_probs; give them, or set kl_coef to the number 0 \(not traced\)\."
        with pytest.raises(ValueError, match=sentence):
            grpo_loss(*self.ARRAYS, **COEFFICIENTS)

    def test_a_traced_kl_coef_without_a_reference_is_refused(self):
        with pytest.raises(ValueError, match="needs reference_log_probs"):
            jax.jit(lambda kl_coef: grpo_loss(*self.ARRAYS, clip_epsilon=0.2, kl_coef=kl_coef))(0.0)

    @pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), jnp.float32(0)])
    def test_kl_coef_of_zero_needs_no_reference(self, zero):
        assert grpo_loss(*self.ARRAYS, clip_epsilon=0.2, kl_coef=zero)[1].kl == 0

    def test_kl_coef_of_zero_ignores_even_an_infinite_divergence(self):
        loss, metrics = grpo_loss(*self.ARRAYS, np.full((2, 3), np.inf), clip_epsilon=0.2, kl_coef=0)
        assert loss == 0 and metrics.kl == np.inf

    def test_an_unknown_aggregation_is_refused(self):
        sentence = "aggregation must be one of sequence_mean, token_mean, constant, got 'mean'."
        with pytest.raises(ValueError, match=sentence):
            grpo_loss(*self.ARRAYS, clip_epsilon=0.2, kl_coef=0, aggregation="mean")

    @pytest.mark.parametrize("name", ["clip_epsilon", "kl_coef"])
    @pytest.mark.parametrize("shape", [(1,), (2,), (3,)])
    def test_settings_that_would_broadcast_are_refused(self, name, shape):
        with pytest.raises(ValueError, match=f"{name} must be a scalar, got an array of shape"):
            grpo_loss(*self.ARRAYS, self.ARRAYS[0], **(COEFFICIENTS | {name: jnp.ones(shape)}))

    @pytest.mark.parametrize("clip_epsilon", [0, -0.2, float("nan")])
    def test_a_clip_that_is_not_positive_is_refused(self, clip_epsilon):
        with pytest.raises(ValueError, match="clip_epsilon must be positive, got"):
            grpo_loss(*self.ARRAYS, clip_epsilon=clip_epsilon, kl_coef=0)

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_too_few_axes_are_refused(self, shape):
        x = jnp.zeros(shape)
        with pytest.raises(
            ValueError, match="log_probs must have an axis of trajectories and one of steps, got shape"
        ):
            grpo_loss(x, x, jnp.zeros(shape[:-1]), clip_epsilon=0.2, kl_coef=0)

    def test_a_mask_that_is_not_boolean_is_refused(self):
        with pytest.raises(TypeError, match="where must be boolean"):
            grpo_loss(*self.ARRAYS, clip_epsilon=0.2, kl_coef=0, where=jnp.ones((2, 3)))

    @pytest.mark.parametrize(
        "name", ["log_probs", "behaviour_log_probs", "advantages", "reference_log_probs", "where"]
    )
    @pytest.mark.parametrize("shape", [(1,), (1, 3), (2, 1), (3,)])
    def test_shapes_that_would_broadcast_are_refused(self, name, shape):
        x = jnp.zeros((2, 3))
        arrays = {"log_probs": x, "behaviour_log_probs": x, "advantages": x[:, 0], "reference_log_probs": x}
        arrays |= {"where": x == 0}
        arrays[name] = jnp.ones(shape, arrays[name].dtype)
        with pytest.raises((AssertionError, ValueError)) as error:
            grpo_loss(**arrays, **COEFFICIENTS)
        message = str(error.value)
        assert name in message and str(shape) in message

    def test_one_advantage_a_step_is_refused(self):
        x = jnp.zeros((2, 3))
        with pytest.raises(AssertionError, match=r"log_probs \(2, 3\), advantages \(2, 3\)"):
            grpo_loss(x, x, x, clip_epsilon=0.2, kl_coef=0)

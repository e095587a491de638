"""The same numbers from eager, jit, vmap, grad, shard_map on eight devices, and jit over sharded arrays."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from haepo_jax import (
    AGGREGATIONS,
    NORMALIZATIONS,
    PAIRS,
    SCORES,
    HaepoMetrics,
    clipped_surrogate_loss,
    clipped_value_loss,
    dpo_loss,
    first_episode_mask,
    generalized_advantages,
    group_relative_advantages,
    grpo_loss,
    haepo_coefficients,
    haepo_loss,
    leave_one_out_advantages,
    normalize_returns,
    preference_pairs,
    reinforce_loss,
    rloo_loss,
    trajectory_log_likelihood,
    trajectory_returns,
    trajectory_scores,
)

AXIS = "trajectories"
SETTINGS = {"entropy_coef": 0.3, "kl_coef": 0.2, "temperature": 0.7}
GROUPS, TRAJECTORIES, DEVICES = 3, 16, 8
REPLICATED, OVER_M = PartitionSpec(), PartitionSpec(None, AXIS)
PER_TRAJECTORY = ("log_weights", "normalized_returns")
METRICS = HaepoMetrics(*(OVER_M if name in PER_TRAJECTORY else REPLICATED for name in HaepoMetrics._fields))

close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))


def evaluate(scores, returns, reference_scores, where, settings, normalization="zscore"):
    """Loss, metrics, gradient with respect to the scores, and coefficients."""
    arrays = returns, reference_scores
    options = {"where": where, "normalization": normalization, **settings}
    (loss, metrics), gradient = jax.value_and_grad(lambda x: haepo_loss(x, *arrays, **options), has_aux=True)(scores)
    return loss, metrics, gradient, haepo_coefficients(scores, *arrays, **options)


@pytest.fixture(scope="module")
def batch(make_batch):
    """Three groups of 16, of which the second is all masked, as is everything that device 1 of 8 would hold."""
    batch = make_batch((GROUPS, TRAJECTORIES))
    batch.where[1] = False
    batch.where[:, 2:4] = False
    arrays = (np.where(batch.where, array, np.nan).astype(np.float32) for array in batch[:3])
    return (*arrays, batch.where)


@pytest.fixture(scope="module", params=["zscore", "sum"])  # `none` reduces nothing
def normalization(request):
    return request.param


@pytest.fixture(scope="module")
def expected(batch, normalization):
    return jax.jit(partial(evaluate, normalization=normalization))(*batch, SETTINGS)


def of_a_part(scores, returns, reference_scores, where, *, normalization, axis_name):
    """Loss, metrics and coefficients on a device that has some of the trajectories."""
    arrays = scores, returns, reference_scores
    options = {"where": where, "normalization": normalization, "axis_name": axis_name, **SETTINGS}
    return *haepo_loss(*arrays, **options), haepo_coefficients(*arrays, **options)


@pytest.fixture(scope="module")
def training(policy, batch):
    """A policy, its trajectories, its loss, and the loss and its gradient on one device."""
    rollout = policy((GROUPS, TRAJECTORIES))

    def loss(params, observations, actions, returns, reference_scores, where, axis_name=None):
        arrays = rollout.log_likelihoods(params, observations, actions), returns, reference_scores
        return haepo_loss(*arrays, where=where, axis_name=axis_name, **SETTINGS)[0]

    def coefficients(scores, returns, reference_scores, where, axis_name):
        return haepo_coefficients(scores, returns, reference_scores, where=where, axis_name=axis_name, **SETTINGS)

    arguments = (rollout.params, rollout.observations, rollout.actions, *batch[1:])
    return SimpleNamespace(
        scores=rollout.log_likelihoods,
        loss=loss,
        coefficients=coefficients,
        arguments=arguments,
        expected=jax.jit(jax.value_and_grad(loss))(*arguments),
    )


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(some_devices(DEVICES)), (AXIS,))


@pytest.fixture(scope="module")
def sharded(mesh):
    """Spreads the trajectories of an array over the devices."""
    return lambda array: jax.device_put(array, NamedSharding(mesh, OVER_M))


@pytest.fixture(scope="module")
def over_devices(mesh):
    """A jitted `shard_map` over the devices."""

    def build(function, in_specs, out_specs, check_vma=True):
        mapped = jax.shard_map(function, mesh=mesh, in_specs=tuple(in_specs), out_specs=out_specs, check_vma=check_vma)
        return jax.jit(mapped)

    return build


class TestOneDevice:
    def test_eager_equals_jit(self, batch, normalization, expected):
        close(evaluate(*batch, SETTINGS, normalization=normalization), expected)

    def test_vmap_over_groups_equals_one_batch(self, batch, normalization, expected):
        single = partial(evaluate, normalization=normalization)
        losses, metrics, gradients, coefficients = jax.jit(jax.vmap(single, (0, 0, 0, 0, None)))(*batch, SETTINGS)
        # the second group has nothing in it
        close((losses[np.array([0, 2])].mean(), metrics, gradients / 2, coefficients / 2), expected)
        assert losses[1] == 0

    def test_a_loop_over_groups_equals_one_batch(self, batch, normalization, expected):
        single = jax.jit(partial(evaluate, normalization=normalization))
        results = [single(*group, SETTINGS) for group in zip(*batch, strict=True)]
        losses, metrics, gradients, coefficients = jax.tree.map(lambda *rows: np.stack(rows), *results)
        close((losses[[0, 2]].mean(), metrics, gradients / 2, coefficients / 2), expected)

    def test_vmap_over_settings_equals_a_loop(self, batch):
        grid = {name: np.linspace(value, 2 * value, 3, dtype=np.float32) for name, value in SETTINGS.items()}
        swept = jax.jit(jax.vmap(evaluate, (None, None, None, None, 0)))(*batch, grid)
        single = jax.jit(evaluate)
        for member in range(3):
            settings = {name: values[member] for name, values in grid.items()}
            close(jax.tree.map(lambda value: value[member], swept), single(*batch, settings))  # noqa: B023

    def test_further_settings_do_not_compile_again(self, batch):
        traces = []

        @jax.jit
        def loss(batch, settings):
            traces.append(settings)
            *arrays, where = batch
            return haepo_loss(*arrays, where=where, **settings)[0]

        losses = {float(loss(batch, {name: scale * x for name, x in SETTINGS.items()})) for scale in (1.0, 2.0, 3.0)}
        assert len(losses) == 3
        assert len(traces) == 1

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    def test_strict_dtype_promotion_is_respected(self, normalization):
        half, whole, flags = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool)
        settings = {name: jnp.float32(value) for name, value in SETTINGS.items()}
        with jax.numpy_dtype_promotion("strict"):
            function = partial(evaluate, normalization=normalization)
            loss, _, gradient, coefficients = jax.eval_shape(function, half, whole, half, flags, settings)
        assert [loss.dtype, gradient.dtype, coefficients.dtype] == [jnp.float32, jnp.bfloat16, jnp.float32]

    @pytest.mark.parametrize("kind", SCORES)
    def test_strict_dtype_promotion_is_respected_by_the_parts(self, kind):
        half, whole, flags = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool)
        scores = partial(trajectory_scores, kind=kind)
        with jax.numpy_dtype_promotion("strict"):
            outputs = [
                jax.eval_shape(scores, half, lengths=whole, behaviour_log_likelihoods=half),
                jax.eval_shape(trajectory_log_likelihood, half, where=flags),
                jax.eval_shape(trajectory_returns, whole, discount=0.9, where=first_episode_mask(flags)),
                jax.eval_shape(reinforce_loss, half, whole, where=flags)[0],
            ]
        assert [output.dtype for output in outputs] == [jnp.float32] * 4

    def test_strict_dtype_promotion_is_respected_by_the_baselines(self):
        half, whole, flags = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool)
        number = jnp.float32(0.1)
        steps = {"terminated": flags, "done": flags, "discount": number, "gae_lambda": number}
        grpo = partial(grpo_loss, clip_epsilon=number, kl_coef=number, where=flags)
        with jax.numpy_dtype_promotion("strict"):
            outputs = [
                jax.eval_shape(group_relative_advantages, whole, where=flags),
                jax.eval_shape(partial(group_relative_advantages, scale=False), whole, where=flags),
                jax.eval_shape(leave_one_out_advantages, whole, where=flags),
                jax.eval_shape(generalized_advantages, whole, half, half, **steps),
                jax.eval_shape(rloo_loss, half, whole, where=flags)[0],
                jax.eval_shape(clipped_surrogate_loss, half, half, whole, clip_epsilon=number, where=flags)[0],
                jax.eval_shape(clipped_value_loss, half, half, whole, clip_epsilon=number, where=flags)[0],
                *[
                    jax.eval_shape(partial(grpo, aggregation=x), half, half, whole[:, 0], half)[0]
                    for x in AGGREGATIONS
                ],
                jax.eval_shape(dpo_loss, half, half, half, half, beta=number, label_smoothing=number, where=flags)[0],
            ]
            pairs = [jax.eval_shape(partial(preference_pairs, pairs=x), whole, where=flags) for x in PAIRS]
        assert [output.dtype for output in outputs] == [jnp.float32] * 11
        assert [output.dtype for output in pairs] == [jnp.bool_] * 2


def estimate(rewards, n, where):
    """Generalised advantages of steps that are cut where `where` says, and terminate at every third."""
    options = {"terminated": n % 3 == 0, "done": where, "discount": 0.9, "gae_lambda": 0.8}
    return generalized_advantages(rewards, rewards / 2, -rewards, **options)


PARTS = {
    "first_episode_mask": lambda x, n, where: first_episode_mask(~where),
    "generalized_advantages": estimate,
    "group_relative_advantages": lambda x, n, where: group_relative_advantages(x, where=where),
    "leave_one_out_advantages": lambda x, n, where: leave_one_out_advantages(x, where=where),
    "preference_pairs": lambda x, n, where: preference_pairs(x, where=where),
    "preference_pairs_best_worst": lambda x, n, where: preference_pairs(x, pairs="best_worst", where=where),
    "rloo_loss": lambda x, n, where: rloo_loss(x, n, where=where)[1].policy_loss,
    "normalize_returns": lambda x, n, where: normalize_returns(x, where=where),
    "reinforce_loss": lambda x, n, where: reinforce_loss(x, n, where=where)[1].policy_loss,
    "trajectory_log_likelihood": lambda x, n, where: trajectory_log_likelihood(x, where=where),
    "trajectory_returns": lambda x, n, where: trajectory_returns(x, discount=0.9, where=where),
    "trajectory_scores": lambda x, n, where: trajectory_scores(x, kind="mean", lengths=n),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_parts_agree_eager_jitted_vmapped_and_sharded(part, batch, sharded):
    scores, _, _, where = batch
    arrays = np.where(where, scores, 0), np.arange(1, 49, dtype=np.int32).reshape(GROUPS, TRAJECTORIES), where
    expected = part(*arrays)
    close(jax.jit(part)(*arrays), expected)
    close(jax.jit(jax.vmap(part))(*arrays), expected)
    close(jax.jit(part)(*map(sharded, arrays)), expected)


COEFFICIENTS = {"clip_epsilon": 0.2, "kl_coef": 0.3}
BASELINES = {
    "clipped_surrogate": lambda x, y, z: clipped_surrogate_loss(x, y, z, clip_epsilon=0.2)[0],
    "clipped_value": lambda x, y, z: clipped_value_loss(x, y, z, clip_epsilon=0.2)[0],
    "dpo": lambda x, y, z: dpo_loss(x, y, y, z, beta=0.4, label_smoothing=0.1)[0],
    "reinforce": lambda x, y, z: reinforce_loss(x, z)[0],
    "rloo": lambda x, y, z: rloo_loss(x, z)[0],
} | {
    f"grpo_{kind}": lambda x, y, z, kind=kind: grpo_loss(x, y, z[..., 0], z, aggregation=kind, **COEFFICIENTS)[0]
    for kind in AGGREGATIONS
}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
class TestBaselines:
    """Losses of eight groups of 4 by 5 in one batch, against the same groups apart. All count alike."""

    ARRAYS = tuple(np.random.default_rng(0).normal(size=(3, DEVICES, 4, 5)).astype(np.float32))

    def test_agree_eager_jitted_vmapped_and_sharded(self, baseline, mesh):
        function = jax.value_and_grad(baseline)
        expected = function(*self.ARRAYS)
        close(jax.jit(function)(*self.ARRAYS), expected)
        losses, gradients = jax.jit(jax.vmap(function))(*self.ARRAYS)
        close((losses.mean(), gradients / DEVICES), expected)
        over_groups = NamedSharding(mesh, PartitionSpec(AXIS))
        close(jax.jit(function)(*(jax.device_put(array, over_groups) for array in self.ARRAYS)), expected)

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_shard_map_over_groups_equals_one_device(self, baseline, over_devices, check_vma):
        def local(factor, *arrays):
            def loss(factor):
                return lax.pmean(baseline(factor * arrays[0], *arrays[1:]), AXIS)

            value, gradient = jax.value_and_grad(loss)(factor)
            return value, lax.pmean(gradient, AXIS)

        specs = [REPLICATED, *[PartitionSpec(AXIS)] * 3]
        got = over_devices(local, specs, (REPLICATED, REPLICATED), check_vma)(np.float32(1.5), *self.ARRAYS)
        x, *rest = self.ARRAYS
        close(got, jax.value_and_grad(lambda factor: baseline(factor * x, *rest))(np.float32(1.5)))


class TestManyDevices:
    """M spread over eight devices."""

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_shard_map_equals_one_device(self, over_devices, batch, normalization, expected, check_vma):
        local = partial(of_a_part, normalization=normalization, axis_name=AXIS)
        function = over_devices(local, [OVER_M] * 4, (REPLICATED, METRICS, OVER_M), check_vma)
        loss, metrics, gradient, _ = expected
        close(function(*batch), (loss, metrics, gradient))

    def test_vmap_with_an_axis_name_equals_one_device(self, batch, normalization, expected):
        local = partial(of_a_part, normalization=normalization, axis_name=AXIS)
        split = [array.reshape(GROUPS, DEVICES, -1) for array in batch]
        outputs = jax.tree.map(lambda spec: None if spec == REPLICATED else 1, (REPLICATED, METRICS, OVER_M))
        got = jax.jit(jax.vmap(local, 1, outputs, axis_name=AXIS))(*split)
        joined = jax.tree.map(lambda value: value.reshape(GROUPS, TRAJECTORIES) if value.ndim == 3 else value, got)
        loss, metrics, gradient, _ = expected
        close(joined, (loss, metrics, gradient))

    def test_jit_over_sharded_arrays_needs_no_axis_name(self, batch, sharded, normalization, expected):
        arrays = [sharded(array) for array in batch]
        assert len(arrays[0].sharding.device_set) == DEVICES
        close(jax.jit(partial(evaluate, normalization=normalization))(*arrays, SETTINGS), expected)

    def test_two_mesh_axes_equal_one(self, batch, normalization, expected):
        axes = ("outer", "inner")
        mesh = Mesh(np.array(some_devices(DEVICES)).reshape(2, 4), axes)
        specs = jax.tree.map(
            lambda spec: spec if spec == REPLICATED else PartitionSpec(None, axes), (REPLICATED, METRICS, OVER_M)
        )
        local = partial(of_a_part, normalization=normalization, axis_name=axes)
        function = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(None, axes), out_specs=specs)
        loss, metrics, gradient, _ = expected
        close(jax.jit(function)(*batch), (loss, metrics, gradient))

    def test_sum_normalisation_looks_at_the_sum_over_all_devices(self, over_devices):
        # negative on all devices but the last, where the total becomes 15 - 14 in one group and 13 - 14 in the other
        returns = np.full((2, DEVICES), -2, np.float32)
        returns[:, -1] = [15, 13]

        def local(scores, returns):
            _, metrics = haepo_loss(scores, returns, entropy_coef=0.0, kl_coef=0, normalization="sum", axis_name=AXIS)
            return metrics.returns_sum_not_positive, metrics.normalized_returns

        flags, normalized = over_devices(local, [OVER_M] * 2, (REPLICATED, OVER_M))(np.zeros_like(returns), returns)
        np.testing.assert_array_equal(flags, [False, True])
        np.testing.assert_array_equal(normalized, [returns[0], np.zeros(DEVICES)])

    def test_zscore_of_equal_returns_is_exactly_zero_on_all_devices(self, over_devices):
        function = over_devices(partial(normalize_returns, axis_name=AXIS), [OVER_M], OVER_M)
        np.testing.assert_array_equal(function(np.full((1, 24), 0.1, np.float32)), np.zeros((1, 24)))

    @pytest.mark.parametrize("check_vma", [False, True])
    @pytest.mark.parametrize("scale", [False, True])
    def test_group_relative_advantages_look_at_all_devices(self, over_devices, batch, scale, check_vma):
        _, returns, _, where = batch
        function = partial(group_relative_advantages, scale=scale)
        local = lambda returns, where: function(returns, where=where, axis_name=AXIS)  # noqa: E731
        got = over_devices(local, [OVER_M] * 2, OVER_M, check_vma)(returns, where)
        close(got, function(returns, where=where))

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_generalized_advantages_of_segments_spread_over_devices(self, over_devices, check_vma):
        rewards = np.random.default_rng(0).normal(size=(DEVICES, 6)).astype(np.float32)
        arrays = rewards, np.arange(48).reshape(DEVICES, 6), rewards > 0.5
        over_segments = PartitionSpec(AXIS)
        close(over_devices(estimate, [over_segments] * 3, over_segments, check_vma)(*arrays), estimate(*arrays))


class TestGradientOfReplicatedParameters:
    """A policy whose parameters every device has, and whose trajectories are spread."""

    SPECS = (REPLICATED, *[OVER_M] * 5)

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_is_the_mean_over_devices_under_shard_map(self, over_devices, training, check_vma):
        def local(*arguments):
            loss, gradient = jax.value_and_grad(training.loss)(*arguments, axis_name=AXIS)
            return loss, lax.pmean(gradient, AXIS)

        function = over_devices(local, self.SPECS, (REPLICATED, REPLICATED), check_vma)
        close(function(*training.arguments), training.expected)

    @pytest.mark.parametrize("check_vma", [False, True])
    def test_of_the_summed_surrogate_is_the_mean_over_devices(self, over_devices, training, check_vma):
        def surrogate(params, observations, actions, *arrays):
            scores = training.scores(params, observations, actions)
            coefficients = training.coefficients(scores, *arrays, axis_name=AXIS)
            return lax.psum((coefficients * scores).sum(), AXIS)

        def local(*arguments):
            return lax.pmean(jax.grad(surrogate)(*arguments), AXIS)

        function = over_devices(local, self.SPECS, REPLICATED, check_vma)
        close(function(*training.arguments), training.expected[1])

    def test_is_the_sum_over_devices_of_the_local_surrogates(self, over_devices, training):
        def local(params, observations, actions, *arrays):
            scores, pull_back = jax.vjp(lambda params: training.scores(params, observations, actions), params)
            (gradient,) = pull_back(training.coefficients(scores, *arrays, axis_name=AXIS))
            return lax.psum(gradient, AXIS)

        # With check_vma the gradient of replicated parameters is a sum over the devices already.
        function = over_devices(local, self.SPECS, REPLICATED, check_vma=False)
        close(function(*training.arguments), training.expected[1])

    def test_is_the_mean_over_a_vmapped_axis(self, training):
        def local(*arguments):
            loss, gradient = jax.value_and_grad(training.loss)(*arguments, axis_name=AXIS)
            return loss, lax.pmean(gradient, AXIS)

        params, *spread = training.arguments
        split = [array.reshape(GROUPS, DEVICES, -1, *array.shape[2:]) for array in spread]
        function = jax.jit(jax.vmap(local, (None, *[1] * 5), None, axis_name=AXIS))
        close(function(params, *split), training.expected)

    def test_needs_nothing_under_jit_over_sharded_arrays(self, sharded, training):
        params, *spread = training.arguments
        function = jax.jit(jax.value_and_grad(training.loss))
        close(function(params, *map(sharded, spread)), training.expected)

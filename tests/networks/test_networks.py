"""Torsos, and policies: pure functions whose distributions agree with the formulas of their kind."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers.policies import mlp_policy
from helpers.settings import fixed_config
from scipy.special import log_softmax

from haepo_jax.config import ACTIVATIONS, PolicyConfig
from haepo_jax.environments import Box, Discrete
from haepo_jax.errors import ConfigError
from haepo_jax.networks import CNN, make_policy, make_torso, make_value
from haepo_jax.population import make_population

OBSERVATION_SIZE = 3
BATCHES = [(), (50,), (4, 6)]


def policy_for(space, *, hidden_sizes=(8,), activation="tanh", initial_log_std=0.0):
    return mlp_policy(
        (OBSERVATION_SIZE,),
        space,
        hidden_sizes=hidden_sizes,
        activation=activation,
        initial_log_std=initial_log_std,
    )


def observations_of(batch):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, OBSERVATION_SIZE)), jnp.float32)


def spread(params):
    """Parameters far from the first ones, so that nothing is near 0 by luck."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)


@pytest.fixture(params=[Discrete(4), Box(2)], ids=["discrete", "real"])
def space(request):
    return request.param


class TestBothKinds:
    def test_init_is_pure(self, space):
        policy = policy_for(space)
        first, same, other = (policy.init(jax.random.key(seed)) for seed in (0, 0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, same)
        assert any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True))

    def test_apply_is_pure(self, space):
        policy = policy_for(space)
        params, observations = policy.init(jax.random.key(0)), observations_of((50,))
        actions = policy.apply(params, observations).sample(seed=jax.random.key(0))
        first, again = (policy.apply(params, observations).log_prob(actions) for _ in range(2))
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize("batch", BATCHES, ids=str)
    def test_batch_shapes(self, space, batch):
        policy = policy_for(space)
        distribution = policy.apply(policy.init(jax.random.key(0)), observations_of(batch))
        actions, log_probs = distribution.sample_and_log_prob(seed=jax.random.key(1))
        event = () if isinstance(space, Discrete) else (space.size,)
        assert distribution.batch_shape == batch and distribution.event_shape == event
        assert actions.shape == distribution.mode().shape == batch + event
        assert log_probs.shape == distribution.entropy().shape == distribution.log_prob(actions).shape == batch
        assert log_probs.dtype == distribution.entropy().dtype == jnp.float32

    def test_a_batch_equals_its_rows(self, space):
        policy = policy_for(space)
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((4, 6))
        whole = policy.apply(params, observations)
        rows = [policy.apply(params, row) for row in observations]
        actions = whole.sample(seed=jax.random.key(1))
        np.testing.assert_allclose(
            whole.log_prob(actions),
            [row.log_prob(action) for row, action in zip(rows, actions, strict=True)],
            rtol=1e-5,
        )

    def test_log_prob_of_samples_is_finite_and_that_of_log_prob(self, space):
        policy = policy_for(space)
        distribution = policy.apply(spread(policy.init(jax.random.key(0))), observations_of((50,)))
        actions, log_probs = distribution.sample_and_log_prob(seed=jax.random.key(1))
        assert np.isfinite(log_probs).all()
        np.testing.assert_allclose(log_probs, distribution.log_prob(actions), rtol=1e-5)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_every_activation_is_used(self, activation):
        policy = policy_for(Box(2), activation=activation)
        params = spread(policy.init(jax.random.key(0)))
        first = jnp.concatenate([params["MLP_0"]["Dense_0"]["kernel"], params["MLP_0"]["Dense_0"]["bias"][None]])
        observations = observations_of((50,))
        hidden = getattr(jax.nn, activation)(jnp.concatenate([observations, jnp.ones((50, 1))], axis=1) @ first)
        last = params["MLP_0"]["Dense_1"]
        outputs = hidden @ last["kernel"] + last["bias"][None]
        np.testing.assert_allclose(policy.apply(params, observations).mode(), outputs, rtol=1e-4, atol=1e-5)

    def test_gradient_reaches_every_parameter(self, space):
        policy = policy_for(space, hidden_sizes=(8, 8))
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((50,))
        actions = policy.apply(params, observations).sample(seed=jax.random.key(1))
        grads = jax.grad(lambda params: policy.apply(params, observations).log_prob(actions).sum())(params)
        assert all(np.abs(leaf).max() > 0 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


class TestDiscrete:
    def test_first_policy_is_nearly_uniform(self):
        policy = policy_for(Discrete(4), hidden_sizes=(64, 64))
        probabilities = policy.apply(policy.init(jax.random.key(0)), 3 * observations_of((50,))).probs
        np.testing.assert_allclose(probabilities, np.full((50, 4), 0.25), atol=0.01)

    def test_log_prob_and_entropy_are_those_of_the_softmax(self):
        policy = policy_for(Discrete(4), hidden_sizes=())
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((50,))
        dense = params["MLP_0"]["Dense_0"]
        expected = log_softmax(np.asarray(observations) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]), -1)
        distribution = policy.apply(params, observations)
        for action in range(4):
            log_probs = distribution.log_prob(jnp.full((50,), action))
            np.testing.assert_allclose(log_probs, expected[:, action], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(distribution.entropy(), -(np.exp(expected) * expected).sum(-1), rtol=1e-4)
        np.testing.assert_array_equal(distribution.mode(), expected.argmax(-1))
        assert np.unique(expected.argmax(-1)).size > 1

    def test_samples_follow_the_probabilities(self):
        policy = policy_for(Discrete(4))
        distribution = policy.apply(spread(policy.init(jax.random.key(0))), observations_of(()))
        samples = distribution.sample(seed=jax.random.key(1), sample_shape=20_000)
        np.testing.assert_allclose(np.bincount(samples, minlength=4) / 20_000, distribution.probs, atol=0.02)


class TestReal:
    @pytest.mark.parametrize("initial_log_std", [0.0, -1.5, 0.7])
    def test_first_policy_is_centred_with_the_given_deviation(self, initial_log_std):
        policy = policy_for(Box(2), hidden_sizes=(64, 64), initial_log_std=initial_log_std)
        distribution = policy.apply(policy.init(jax.random.key(0)), 3 * observations_of((50,)))
        np.testing.assert_allclose(distribution.mode(), np.zeros((50, 2)), atol=0.05)
        np.testing.assert_allclose(distribution.stddev(), np.full((50, 2), np.exp(initial_log_std)), rtol=1e-6)

    def test_log_prob_and_entropy_are_sums_over_normals(self):
        policy = policy_for(Box(2))
        params, observations = spread(policy.init(jax.random.key(0))), observations_of((4, 6))
        distribution = policy.apply(params, observations)
        actions = distribution.sample(seed=jax.random.key(1))
        normal = scipy.stats.norm(np.asarray(distribution.mode()), np.exp(np.asarray(params["log_std"])))
        np.testing.assert_allclose(distribution.log_prob(actions), normal.logpdf(actions).sum(-1), rtol=1e-4)
        np.testing.assert_allclose(distribution.entropy(), normal.entropy().sum(-1), rtol=1e-5)
        assert len(set(params["log_std"].tolist())) == 2  # each action has its own

    def test_deviation_does_not_depend_on_the_observation(self):
        policy = policy_for(Box(2))
        deviations = policy.apply(spread(policy.init(jax.random.key(0))), observations_of((50,))).stddev()
        np.testing.assert_array_equal(deviations, np.broadcast_to(deviations[:1], (50, 2)))


class Rows(nn.Module):
    """A torso as a user may write one: it takes of the config the activation alone."""

    size: int
    activation: object

    @nn.compact
    def __call__(self, observations):
        return self.activation(nn.Dense(self.size)(observations)).max(axis=-2)


class Counts(Rows):
    @nn.compact
    def __call__(self, observations):
        self.variable("counts", "calls", lambda: 0)
        return super().__call__(observations)


class Drops(Rows):
    @nn.compact
    def __call__(self, observations):
        return nn.Dropout(0.5, deterministic=False)(super().__call__(observations))


class CalledHead(nn.Module):
    @nn.compact
    def __call__(self, observations):
        return nn.Dense(2, name="head")(observations)


class Bits(nn.Module):
    @nn.compact
    def __call__(self, observations):
        return nn.Dense(2, param_dtype=jnp.bfloat16)(observations)


READY = Bits()


def leaves(*observations):
    del observations
    raise SystemExit(3)


def first_alone(array):
    return array[..., :1]


def positive(array):
    return array > 0


def flat_only(size):
    return lambda observations: observations


CONFIGS = {
    "mlp": PolicyConfig(hidden_sizes=(8,)),
    "cnn": PolicyConfig(network="cnn", network_kwargs={"channels": 3, "dense_size": 6}),
    "outside": PolicyConfig(network=f"{__name__}:Rows", network_kwargs={"size": 5}),
}
IMAGE = (6, 5, 2)


def images_of(batch, shape=IMAGE):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, *shape)), jnp.float32)


def refusal(shape=(3, 4), **settings):
    with pytest.raises(ConfigError) as raised:
        make_torso(PolicyConfig(**settings), shape)
    return str(raised.value)


class TestTorsos:
    @pytest.mark.parametrize("network", CONFIGS)
    def test_axes_before_those_of_an_observation_are_a_batch_whatever_their_number(self, network):
        shape = (6, 5)
        torso = make_torso(CONFIGS[network], shape)
        policy = make_policy(shape, Box(2), make_torso=torso, initial_log_std=0.0)
        value = make_value(shape, make_torso=torso)
        params, of_value = (spread(each.init(jax.random.key(0))) for each in (policy, value))
        observations = images_of((2, 3), shape)
        modes, values = policy.apply(params, observations).mode(), value.apply(of_value, observations)
        assert values.shape == (2, 3) and np.unique(values).size == 6
        for i, j in [(0, 0), (1, 2)]:
            alone = policy.apply(params, observations[i, j]).mode()
            np.testing.assert_allclose(modes[i, j], alone, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(values[i, j], value.apply(of_value, observations[i, j]), rtol=1e-4, atol=1e-5)

    def test_a_cnn_is_a_convolution_and_a_dense_layer(self):
        cnn = CNN(IMAGE, jnp.tanh, channels=3, kernel_size=3, dense_size=6)
        images = images_of((4,))
        params = spread(cnn.init(jax.random.key(0), images)["params"])
        kernel = params["Dense_0"]["kernel"].reshape(3, 3, IMAGE[-1], 3)
        axes = ("NHWC", "HWIO", "NHWC")
        hidden = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes)
        hidden = jnp.tanh(hidden + params["Dense_0"]["bias"]).reshape(4, -1)
        expected = jnp.tanh(hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])
        np.testing.assert_allclose(cnn.apply({"params": params}, images), expected, rtol=1e-4, atol=1e-5)

    def test_a_grid_is_an_image_of_one_channel(self):
        grid, image = (CNN(shape, jnp.tanh) for shape in ((6, 5), (6, 5, 1)))
        observations = images_of((4,), (6, 5))
        params = grid.init(jax.random.key(0), observations)
        np.testing.assert_array_equal(grid.apply(params, observations), image.apply(params, observations[..., None]))

    def test_the_parameters_of_an_mlp_lie_where_those_of_old_checkpoints_do(self, space):
        policy = policy_for(space, hidden_sizes=(8, 8))
        params = policy.init(jax.random.key(0))
        assert set(params) - {"log_std"} == {"MLP_0"} and set(params["MLP_0"]) == {"Dense_0", "Dense_1", "Dense_2"}

    def test_a_torso_from_outside_keeps_its_parameters_beside_the_head(self):
        torso = make_torso(CONFIGS["outside"], (3, 4))
        params = make_policy((3, 4), Discrete(2), make_torso=torso, initial_log_std=0.0).init(jax.random.key(0))
        shapes = jax.tree.map(jnp.shape, params)
        dense = {"kernel": (4, 5), "bias": (5,)}
        assert shapes == {"Rows_0": {"Dense_0": dense, "head": {"kernel": (5, 2), "bias": (2,)}}}

    def test_in_a_program_torso_and_activation_may_be_given_themselves(self):
        config = PolicyConfig(network=Rows, network_kwargs={"size": 5}, activation=jnp.abs)
        module = make_torso(config, (3, 4))()
        assert isinstance(module, Rows) and module.activation is jnp.abs

    def test_an_activation_from_outside_is_used(self):
        torso = make_torso(PolicyConfig(activation="jax.numpy:abs", hidden_sizes=(4,)), (3,))
        assert torso().activation is jnp.abs

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("Counts", "has mutable state (counts), which no update would carry on; a torso has parameters alone."),
            ("Drops", "draws random numbers, as dropout does, which a torso may not: its features must follow from"),
            ("flat_only", "must make a flax.linen.Module, got <function flat_only"),
        ],
    )
    def test_a_module_that_is_no_torso_is_refused(self, name, sentence):
        found = refusal(network=f"{__name__}:{name}", network_kwargs={"size": 5})
        assert found.startswith(f"config.policy.network {__name__}:{name} {sentence}")

    def test_features_of_a_wrong_shape_are_refused_with_both_shapes(self):
        name = f"{__name__}:Rows"
        sentence = refusal((2, 3, 4), network=name, network_kwargs={"size": 5})
        assert sentence == (
            f"config.policy.network {name} maps observations of shape (2, 3, 4) to float32[2, 5]; it must be real "
            "features of shape (F), of any size F, whatever axes lead."
        )

    def test_a_torso_that_fails_is_refused_with_its_own_words(self):
        sentence = refusal((), network=f"{__name__}:Rows", network_kwargs={"size": 5})
        assert "Rows at observations of shape () fails at line " in sentence and "\n" not in sentence
        assert sentence.endswith(".")

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("CalledHead", "has a layer or a parameter called head, as the layer after it is called; give it another"),
            ("Bits", "has the parameter Dense_0.bias in bfloat16; all must be float32, whatever it computes in."),
            ("READY", "is Bits(); it must be the class of a flax.linen.Module, or a function that makes one."),
            ("leaves", "at observations of shape (4,) fails at line"),
        ],
    )
    def test_what_no_gradient_step_could_move_is_refused(self, name, sentence):
        found = refusal((4,), network=f"{__name__}:{name}")
        assert found.startswith(f"config.policy.network {__name__}:{name} {sentence}")

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("first_alone", "gives float32[2, 1]; it must give real numbers of the shape of its argument, (2, 3)."),
            ("positive", "gives bool[2, 3]; it must give real numbers of the shape of its argument, (2, 3)."),
            ("leaves", "fails at line"),
        ],
    )
    def test_an_activation_that_is_none_is_refused_by_its_name(self, name, sentence):
        found = refusal((4,), activation=f"{__name__}:{name}")
        assert found.startswith(f"config.policy.activation {__name__}:{name} {sentence}")

    @pytest.mark.parametrize(
        ("kwargs", "sentence"),
        [
            ({"sizes": 5}, "config.policy.network_kwargs.sizes is not an argument of Rows; did you mean size?"),
            ({}, "Rows needs the argument size: give config.policy.network_kwargs.size."),
        ],
        ids=["unknown", "missing"],
    )
    def test_arguments_that_a_torso_does_not_have_or_lacks_are_refused(self, kwargs, sentence):
        assert refusal(network=f"{__name__}:Rows", network_kwargs=kwargs) == sentence

    def test_a_cnn_refuses_what_is_no_image_and_sizes_that_are_none(self):
        assert refusal((4,), network="cnn").endswith("and these have shape (4,); take mlp.")
        sentence = refusal(network="cnn", network_kwargs={"channels": 0})
        assert sentence == (
            "config.policy.network_kwargs.channels of cnn must be a whole number of at least 1, got 0."
        )


@pytest.mark.slow
def test_a_cnn_learns_to_catch():
    config = fixed_config(
        {
            "env": "Catch-bsuite",
            "horizon": 9,
            "num_updates": 40,
            "num_trajectories": 64,
            "haepo": {"entropy_coef": 0.3},
            "policy": {"network": "cnn", "activation": "relu"},
        }
    )
    returns = make_population(config, members_per_device=4).run([{}], range(4))["episode_return"]
    assert returns[..., :5].mean() < 0.3
    assert (returns[0, :, -10:].mean(axis=-1) > 0.9).all()


@pytest.mark.slow
def test_images_are_learned_from_alike_whatever_is_kept_of_the_episodes():
    def trained(memory):
        values = {
            "env": "Catch-bsuite",
            "horizon": 9,
            "memory": memory,
            "num_updates": 2,
            "num_trajectories": 8,
            "policy": {"network": "cnn", "network_kwargs": {"channels": 3, "dense_size": 8}},
        }
        return make_population(fixed_config(values)).run([{}], range(2)).params

    kept, *others = (trained(memory) for memory in ("store", "remat", "recompute"))
    assert kept["CNN_0"]["Dense_0"]["kernel"].shape == (1, 2, 9, 3)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), kept, other)

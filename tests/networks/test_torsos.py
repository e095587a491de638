"""Our torsos: what they compute, of observations with whatever axes before their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.policies import mlp_policy, spread
from helpers.settings import fixed_config

from haepo_jax.config import PolicyConfig
from haepo_jax.environments import Box, Discrete
from haepo_jax.networks import CNN, make_policy, make_torso, make_value
from haepo_jax.population import make_population

pytestmark = pytest.mark.usefixtures("exact_products")

CONFIGS = {
    "mlp": PolicyConfig(hidden_sizes=(8,)),
    "cnn": PolicyConfig(network="cnn", network_kwargs={"channels": 3, "dense_size": 6}),
    "outside": PolicyConfig(network="helpers.policies:Rows", network_kwargs={"size": 5}),
}
IMAGE = (6, 5, 2)


def images_of(batch, shape=IMAGE):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch, *shape)), jnp.float32)


@pytest.mark.parametrize("network", CONFIGS)
def test_axes_before_those_of_an_observation_are_a_batch_whatever_their_number(network):
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


def test_a_cnn_is_a_convolution_and_a_dense_layer():
    cnn = CNN(IMAGE, jnp.tanh, channels=3, kernel_size=3, dense_size=6)
    images = images_of((4,))
    params = spread(cnn.init(jax.random.key(0), images)["params"])
    kernel = params["Dense_0"]["kernel"].reshape(3, 3, IMAGE[-1], 3)
    axes = ("NHWC", "HWIO", "NHWC")
    hidden = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes)
    hidden = jnp.tanh(hidden + params["Dense_0"]["bias"]).reshape(4, -1)
    expected = jnp.tanh(hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])
    np.testing.assert_allclose(cnn.apply({"params": params}, images), expected, rtol=1e-4, atol=1e-5)


def test_a_grid_is_an_image_of_one_channel():
    grid, image = (CNN(shape, jnp.tanh) for shape in ((6, 5), (6, 5, 1)))
    observations = images_of((4,), (6, 5))
    params = grid.init(jax.random.key(0), observations)
    np.testing.assert_array_equal(grid.apply(params, observations), image.apply(params, observations[..., None]))


@pytest.mark.parametrize("space", [Discrete(4), Box(2)], ids=["discrete", "real"])
def test_the_parameters_of_an_mlp_lie_where_those_of_old_checkpoints_do(space):
    policy = mlp_policy((3,), space, hidden_sizes=(8, 8))
    params = policy.init(jax.random.key(0))
    assert set(params) - {"log_std"} == {"MLP_0"} and set(params["MLP_0"]) == {"Dense_0", "Dense_1", "Dense_2"}


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

import pytest
from helpers.settings import fixed_config

from haepo_jax.population.member import make_environment
from haepo_jax.population.network_sizes import network_sizes


def sizes_of(**values):
    config = fixed_config(values)
    return network_sizes(config, make_environment(config))


@pytest.mark.parametrize(("algorithm", "outputs"), [("haepo", [2]), ("ppo", [2, 1])])
def test_parameters_are_those_of_all_layers_of_policy_and_critic(algorithm, outputs):
    sizes = sizes_of(env="CartPole-v1", algorithm=algorithm, policy={"hidden_sizes": (8, 16)})
    torso = (4 + 1) * 8 + (8 + 1) * 16
    assert sizes.params == sum(torso + (16 + 1) * output for output in outputs)


def test_widths_are_those_of_the_policys_layers():
    sizes = sizes_of(env="CartPole-v1", algorithm="ppo", policy={"hidden_sizes": (8, 16)})
    assert sizes.widths == [8, 16, 2]
    assert sizes.setting == "config.policy.hidden_sizes"


def test_a_convolution_has_the_width_of_all_its_pixels():
    sizes = sizes_of(env="Breakout-MinAtar", policy={"network": "cnn"})
    assert sizes.widths[0] % (8 * 8) == 0 and sizes.widths[0] > 8 * 8  # 10 x 10 pixels by 3 x 3 kernels
    assert sizes.setting == "config.policy.network_kwargs"

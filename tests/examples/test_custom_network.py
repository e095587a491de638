import runpy
from pathlib import Path

import jax
import pytest

from haepo_jax.config import from_config_dict
from haepo_jax.population.member import make_member

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_network.py"


def test_the_config_gives_the_network_its_arguments():
    example = runpy.run_path(str(EXAMPLE))
    policy = make_member(from_config_dict(example["get_config"]()), network=example["Residual"]).algorithm.policy
    params = jax.eval_shape(policy.init, jax.random.key(0))["Residual_0"]
    assert params["Dense_0"]["kernel"].shape == (50, 32) and params["head"]["kernel"].shape == (32, 3)


@pytest.mark.slow
def test_a_network_of_ones_own_learns_to_catch():
    assert runpy.run_path(str(EXAMPLE))["main"]() > 0.95

"""The environment of examples/custom_environment.py, as its config names it."""

import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from experiments.cli import config_file
from haepo_jax.config import from_config_dict
from haepo_jax.population import make_population

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_environment.py"


@pytest.mark.slow
def test_the_policy_learns_to_keep_the_ball_on_its_line_and_the_wind_may_be_swept(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = from_config_dict(config_file.load(str(EXAMPLE), (), {}) | {"num_updates": 12, "num_seeds": 2})
    population = make_population(config)
    assert population.functions.environment.observation_shape == (12,)
    trained = population.run([{}, {"env_params.wind": 0.2}], seeds=range(2))
    returns = trained["episode_return"]
    assert (returns[0, :, -1] > 2 * returns[0, :, 0]).all()  # the still line, from about 24 of 100
    assert returns[1, :, -1].max() < returns[0, :, -1].min()
    assert (trained["distance"] > 0).all() and trained["distance"].dtype == jnp.float32


@pytest.fixture(autouse=True)
def forget():
    yield
    sys.modules.pop("custom_environment", None)

"""`configs/any_task.py` trains whatever environment it is given, with nothing else set."""

import numpy as np
import pytest

from configs import any_task
from haepo_jax.config import from_config_dict
from haepo_jax.environments import environment_names
from haepo_jax.population import make_population

DOWNLOADS = {"MNISTBandit-bsuite"}
QUICK = {"Catch-bsuite"}
"""Short episodes with a long limit."""


@pytest.mark.parametrize(
    "env",
    [
        pytest.param(env, marks=() if env in QUICK else pytest.mark.slow)
        for env in environment_names()
        if env not in DOWNLOADS
    ],
)
def test_an_environment_learns_by_its_id_alone(env):
    config = any_task.get_config()
    config.env = env
    config.num_seeds, config.num_updates = 2, 1
    trained = make_population(from_config_dict(config)).run([{}], seeds=range(2))
    assert np.isfinite(trained["episode_return"]).all() and np.isfinite(trained["loss"]).all()
    assert (trained["env_steps"] >= 512).all()


def test_its_updates_suffice_for_its_steps():
    config = from_config_dict(any_task.get_config())
    assert (config.num_seeds, config.max_env_steps) == (16, 200_000)
    assert config.num_updates * config.min_batch_steps >= config.max_env_steps

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from haepo_jax.config import default_config, from_config_dict
from haepo_jax.population import make_population

EXAMPLE = Path(__file__).parents[2] / "examples" / "jit_vmap_scan.py"


@pytest.mark.slow
def test_seeds_learn_catch():
    returns = runpy.run_path(str(EXAMPLE))["main"]()
    assert returns.shape == (4, 20)
    assert returns[:, -1].mean() > returns[:, 0].mean() + 0.3


@pytest.mark.slow
def test_it_trains_as_a_population_does():
    values = default_config()
    values.update({"env": "Catch-bsuite", "num_updates": 2})
    config = from_config_dict(values)
    train = jax.jit(jax.vmap(runpy.run_path(str(EXAMPLE))["make_train"](config)))
    _, metrics = train(jax.vmap(jax.random.key)(np.arange(2)))
    expected = make_population(config).run([{}], seeds=range(2))
    np.testing.assert_allclose(metrics["episode_return"], expected["episode_return"][0], rtol=1e-5)

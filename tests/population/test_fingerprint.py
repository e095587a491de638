import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.settings import fixed_config

from haepo_jax.population import make_population
from haepo_jax.population.fingerprint import fingerprint


def of(function, *arguments):
    return fingerprint(jax.make_jaxpr(function)(*arguments))


X = np.arange(3.0, dtype=np.float32)


def test_the_same_computation_has_the_same_fingerprint():
    assert of(lambda x: jnp.sin(x) * 2, X) == of(lambda y: jnp.sin(y) * 2, X + 1)


@pytest.mark.parametrize(
    "other",
    [
        lambda x, y: jnp.cos(x) * 2 - y,
        lambda x, y: jnp.sin(x) * 3 - y,
        lambda x, y: jnp.sin(y) * 2 - x,
        lambda x, y: jnp.sin(x) * 2 - y[::-1],
        lambda x, y: jax.jit(lambda x: jnp.sin(x) * 3)(x) - y,
        lambda x, y: jnp.sin(x) * 2 - y + np.array([0, 0, 1e-3], np.float32),
    ],
)
def test_another_computation_has_another_fingerprint(other):
    assert of(other, X, X) != of(lambda x, y: jnp.sin(x) * 2 - y, X, X)


def test_a_constant_array_changes_the_fingerprint():
    first, second = (of(lambda x, table=table: x + table, X) for table in (X, X + 1))
    assert first != second


SMALL = {"env": "Catch-bsuite", "num_trajectories": 2, "policy": {"hidden_sizes": (4,)}}


def of_config(**changes):
    return make_population(fixed_config(SMALL | changes)).fingerprint()


@pytest.fixture(scope="module")
def program():
    return of_config()


def test_seeds_and_traced_settings_do_not_change_the_fingerprint(program):
    assert of_config(seed=5, optimizer={"learning_rate": 0.5}) == program


@pytest.mark.slow
def test_the_fingerprint_is_the_same_in_every_process(program):
    path = os.pathsep.join(filter(None, sys.path))
    code = "import test_fingerprint; print(test_fingerprint.of_config())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {program + "\n"}

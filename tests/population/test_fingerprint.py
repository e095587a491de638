import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haepo_jax
from haepo_jax.config import from_config_dict
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.population.fingerprint import fingerprint
from haepo_jax.runs.identity import write_identity
from haepo_jax.runs.programs import check_programs, record_programs


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
    return make_population(from_config_dict(SMALL | changes)).fingerprint()


@pytest.fixture(scope="module")
def program():
    return of_config()


def test_a_run_whose_loss_was_changed_is_refused(tmp_path, monkeypatch, program):
    write_identity(tmp_path, {}, [])
    record_programs(tmp_path, {"all": program})
    check_programs(tmp_path, {"all": program})

    from haepo_jax.methods import haepo

    monkeypatch.setattr(haepo, "haepo_loss", lambda *a, loss=haepo.haepo_loss, **o: doubled(loss(*a, **o)))
    with pytest.raises(ConfigError, match="was begun with other updates: the loss, the network, the environment"):
        check_programs(tmp_path, {"all": of_config()})


def doubled(result):
    loss, metrics = result
    return 2 * loss, metrics


def test_after_an_upgrade_of_jax_another_fingerprint_is_reported_and_not_refused(tmp_path, monkeypatch, capsys):
    write_identity(tmp_path, {}, [])
    record_programs(tmp_path, {"all": "before"})
    monkeypatch.setattr(jax, "__version__", "99.0")
    check_programs(tmp_path, {"all": "after"})
    assert "and this is JAX 99.0: whether an update still computes the same cannot be seen." in capsys.readouterr().out


def test_after_an_upgrade_of_the_package_another_fingerprint_is_reported_and_refused_from_then_on(
    tmp_path, monkeypatch, capsys
):
    write_identity(tmp_path, {}, [])
    record_programs(tmp_path, {"all": "before", "other": "stays"})
    monkeypatch.setattr(haepo_jax, "__version__", "99.0")
    now = {"all": "after", "other": "stays"}
    check_programs(tmp_path, now)
    said = capsys.readouterr().out
    assert "and this is haepo_jax 99.0: whether code of your own in it still computes the same cannot be seen." in said
    record_programs(tmp_path, now)
    check_programs(tmp_path, now)
    assert not capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"was begun with other updates.* and this is 99\.0\. Nothing was changed"):
        check_programs(tmp_path, {"all": "before", "other": "stays"})


def test_seeds_and_traced_settings_do_not_change_the_fingerprint(program):
    assert of_config(seed=5, optimizer={"learning_rate": 0.5}) == program


@pytest.mark.slow
def test_the_fingerprint_is_the_same_in_every_process(program):
    code = "import test_fingerprint; print(test_fingerprint.of_config())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {program + "\n"}

import jax
import pytest
from helpers.settings import fixed_config

import haepo_jax
from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.runs.identity import write_identity
from haepo_jax.runs.programs import check_programs, record_programs

SMALL = {"env": "Catch-bsuite", "num_trajectories": 2, "policy": {"hidden_sizes": (4,)}}


def make_fingerprint():
    return make_population(fixed_config(SMALL)).fingerprint()


def test_a_run_whose_loss_was_changed_is_refused(tmp_path, monkeypatch):
    program = make_fingerprint()
    write_identity(tmp_path, {}, [])
    record_programs(tmp_path, {"all": program})
    check_programs(tmp_path, {"all": program})

    from haepo_jax.methods import haepo

    monkeypatch.setattr(haepo, "haepo_loss", lambda *a, loss=haepo.haepo_loss, **o: doubled(loss(*a, **o)))
    with pytest.raises(ConfigError, match="was begun with other updates: the loss, the network, the environment"):
        check_programs(tmp_path, {"all": make_fingerprint()})


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

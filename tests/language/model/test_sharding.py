"""How many devices share a batch, and means over examples that they cannot share evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices

from haepo_jax.errors import ConfigError
from haepo_jax.language.config import LanguageConfig
from haepo_jax.language.model.sharding import count_usable_devices, make_mesh
from haepo_jax.language.stages.context import StageContext
from haepo_jax.language.stages.held_out import average_over_batches
from haepo_jax.language.training.scoring import Sequences


@pytest.mark.parametrize(
    ("devices", "fsdp", "rows", "used"),
    [
        (12, 1, 32, 8),
        (6, 1, 32, 4),
        (16, 1, 8, 8),
        (12, 1, 36, 12),
        (7, 1, 32, 4),
        (7, 1, 5, 5),
        (8, 1, 1, 1),
        (12, 4, 32, 8),
        (12, 3, 36, 12),
        (6, 4, 32, 4),
        (16, 16, 32, 16),
    ],
)
def test_as_many_devices_as_can_share_a_batch_are_used(devices, fsdp, rows, used):
    assert count_usable_devices(devices, fsdp, rows) == used
    assert rows % used == 0 == used % fsdp
    assert not any(rows % more == 0 == more % fsdp for more in range(used + 1, devices + 1))


@pytest.mark.parametrize(("devices", "fsdp", "rows"), [(8, 16, 32), (12, 3, 32), (1, 2, 2)])
def test_copies_that_no_share_of_the_devices_holds_are_refused(devices, fsdp, rows):
    with pytest.raises(ConfigError) as error:
        count_usable_devices(devices, fsdp, rows)
    assert str(error.value) == (
        f"config.mesh.fsdp {fsdp} does not fit: of the {devices} devices a multiple of it must share a batch of "
        f"{rows} evenly."
    )


def test_a_mesh_of_fewer_devices_says_so(capsys):
    some_devices(8)  # of which a mesh takes as many as it can
    assert make_mesh(1, rows=8).size == 8
    assert capsys.readouterr().err == ""
    assert make_mesh(2, rows=12).shape == {"data": 3, "fsdp": 2}
    assert capsys.readouterr().err == "Uses 6 of 8 devices, as more cannot share a batch of 12 evenly.\n"


@jax.jit
def mean_token(rows):
    return jnp.sum(jnp.where(rows.valid, rows.tokens, 0)) / jnp.sum(rows.valid)


@pytest.mark.parametrize("batch", [8, 5])
@pytest.mark.parametrize("count", [15, 7, 1, 64, 130])
def test_means_are_of_all_rows_or_of_whole_batches(batch, count, tmp_path):
    context = StageContext(LanguageConfig(), tmp_path, make_mesh(1, rows=batch), generated=True)
    size = context.held_out_rows
    assert size % context.mesh.size == 0 and 0 <= 64 - size < context.mesh.size
    rows = Sequences(np.random.default_rng(0).integers(1, 100, (count, 3)), np.ones((count, 3), bool))
    whole = count if count < size else count // size * size
    np.testing.assert_allclose(average_over_batches(context, mean_token, rows), rows.tokens[:whole].mean(), rtol=1e-6)

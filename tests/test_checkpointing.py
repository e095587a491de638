import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.checkpointing import Checkpoint, Checkpointer
from haepo_jax.config import from_config_dict
from haepo_jax.population import make_population

# What the storage library leaves behind when it fails on damaged data.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def population():
    """Three members over two devices, beside one row of padding."""
    small = {"num_seeds": 3, "num_trajectories": 2, "horizon": 5, "policy": {"hidden_sizes": (4,)}}
    return make_population(from_config_dict(small), devices=jax.devices()[:2])


@pytest.fixture(scope="module", params=["devices", "host"])
def kept(request, population):
    """`(contents of a checkpoint, template)`: arrays on the devices, as of a population, or NumPy arrays."""
    arrays = population.to_arrays(population.init())
    if request.param == "devices":
        return arrays, population.template()
    host = {"state": population.to_host(population.init()), "tokens": np.full(3, 2**40, np.int64)}
    return host, host


@pytest.fixture
def template(kept):
    return kept[1]


@pytest.fixture
def checkpoints(tmp_path, kept):
    """A folder with checkpoints after updates 1 to 3, each with contents of its own."""
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    for update in (1, 2, 3):
        save(checkpointer, kept, update)
    yield checkpointer
    checkpointer.close()


def save(checkpointer, kept, update):
    checkpointer.save(update, at(kept, update).tree)
    checkpointer.wait()


def at(kept, update):
    return Checkpoint(
        update,
        jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf + np.asarray(update, leaf.dtype), kept[0]),
    )


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(left).dtype == np.asarray(right).dtype
        np.testing.assert_array_equal(left, right)


def damage(folder, change):
    """Changes the content of every file of a checkpoint that holds array data; some are stored twice."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d"]
    assert files
    for path in files:
        path.write_bytes(change(path.read_bytes()))


def flip_bit(content, share):
    position = int(share * len(content))
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def test_a_checkpoint_comes_back_exactly(checkpoints, kept, template):
    found, damaged = checkpoints.restore(template)
    assert_identical(found, at(kept, 3))
    assert damaged == []


def test_an_empty_folder_holds_none(tmp_path, template):
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert checkpointer.restore(template) == (None, [])
    checkpointer.close()


def test_only_the_newest_three_are_kept(checkpoints, kept, template, tmp_path):
    save(checkpoints, kept, 4)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["2", "3", "4"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_falls_back_to_the_newest_good_one(checkpoints, kept, template, tmp_path, share):
    damage(tmp_path / "checkpoints" / "3", lambda content: flip_bit(content, share))
    found, damaged = checkpoints.restore(template)
    assert_identical(found, at(kept, 2))
    assert [damage.update for damage in damaged] == [3]
    assert (tmp_path / "checkpoints_damaged" / "3").is_dir()


def test_a_changed_value_is_told_by_its_members_checksum(checkpoints, kept, template, monkeypatch):
    import haepo_jax.checkpointing as module

    original = module._checksums

    def changed(arrays, update):
        sums = original(arrays, update)
        return sums + (jnp.arange(len(sums)) == 1).astype(jnp.uint32)

    monkeypatch.setattr(module, "_checksums", changed)
    save(checkpoints, kept, 4)
    monkeypatch.setattr(module, "_checksums", original)
    found, damaged = checkpoints.restore(template)
    assert_identical(found, at(kept, 3))
    assert damaged[0].reason == "the checksum does not hold for member 1"


def test_truncated_data_falls_back(checkpoints, kept, template, tmp_path):
    damage(tmp_path / "checkpoints" / "3", lambda content: content[: len(content) // 2])
    assert_identical(checkpoints.restore(template)[0], at(kept, 2))


def test_an_empty_step_folder_falls_back(checkpoints, kept, template, tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir()
    found, damaged = checkpoints.restore(template)
    assert_identical(found, at(kept, 3))
    assert [damage.update for damage in damaged] == [7]


def test_a_step_under_another_number_falls_back(checkpoints, kept, template, tmp_path):
    (tmp_path / "checkpoints" / "3").rename(tmp_path / "checkpoints" / "9")
    assert_identical(checkpoints.restore(template)[0], at(kept, 2))


def test_all_damaged_gives_none_and_says_which(checkpoints, kept, template, tmp_path):
    for step in (1, 2, 3):
        damage(tmp_path / "checkpoints" / str(step), lambda content: b"")
    found, damaged = checkpoints.restore(template)
    assert found is None
    assert [damage.update for damage in damaged] == [3, 2, 1]


def test_after_a_fallback_the_same_step_is_saved_again(checkpoints, kept, template, tmp_path):
    damage(tmp_path / "checkpoints" / "3", lambda content: b"")
    checkpoints.restore(template)
    save(checkpoints, kept, 3)
    assert_identical(checkpoints.restore(template)[0], at(kept, 3))


@pytest.mark.parametrize("change", ["dtype", "shape", "structure"])
def test_another_population_is_not_cast_silently(checkpoints, template, change):
    names = iter(range(1000))
    first = lambda leaf: next(names) == 0  # noqa: E731

    def altered(leaf):
        if not first(leaf):
            return leaf
        dtype = np.dtype(np.int16) if change == "dtype" else leaf.dtype
        shape = (leaf.shape[0], 9) if change == "shape" else leaf.shape
        if isinstance(leaf, np.ndarray):
            return np.zeros(shape, dtype)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=leaf.sharding)

    other = (template, template) if change == "structure" else jax.tree.map(altered, template)
    assert checkpoints.restore(other)[0] is None


class TestOtherDevices:
    """A checkpoint of four rows over two devices, read by populations that lie elsewhere."""

    @pytest.fixture
    def saved(self, tmp_path, population):
        checkpointer = Checkpointer(tmp_path / "checkpoints")
        checkpointer.save(1, population.to_arrays(population.init()))
        checkpointer.wait()
        yield checkpointer
        checkpointer.close()

    @pytest.mark.parametrize("devices", [1, 3, 8])
    def test_read_the_same_rows(self, saved, population, devices):
        other = make_population(population.config, devices=jax.devices()[:devices], members_per_device=2)
        own = other.with_members(population.members[: other.capacity])
        found, _ = saved.restore(own.template())
        whole = population.to_host(population.init())
        assert_identical(
            own.to_host(own.resumed(found.tree)), jax.tree.map(lambda leaf: leaf[: len(own.members)], whole)
        )

    def test_read_from_any_row_on(self, saved, population):
        one = make_population(population.config, devices=jax.devices()[:1], members_per_device=2)
        last = one.with_members(population.members[2:])
        found, _ = saved.restore(last.template(), first=2)
        resumed = last.resumed(found.tree)
        whole = population.to_host(population.init())
        assert_identical(last.to_host(resumed), jax.tree.map(lambda leaf: leaf[2:], whole))
        assert last.running(resumed).tolist() == [True]
        assert np.asarray(resumed.alive).tolist() == [True, False]  # the padding never runs


def test_what_an_interrupted_save_left_is_cleared(checkpoints, kept, template, tmp_path):
    left = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp-123"
    left.mkdir()
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert_identical(checkpointer.restore(template)[0], at(kept, 3))
    assert not left.exists()
    checkpointer.close()

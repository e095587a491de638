import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices
from helpers.settings import fixed_config

from haepo_jax.errors import ConfigError
from haepo_jax.population import make_population
from haepo_jax.runs import checkpoints as module
from haepo_jax.runs import checksums
from haepo_jax.runs.checkpoints import Checkpointer, list_saved, read_checkpoint

# What the storage library leaves behind when it fails on damaged data.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def population():
    """Three members over two devices, beside one row of padding."""
    small = {"num_seeds": 3, "num_trajectories": 2, "horizon": 5, "policy": {"hidden_sizes": (4,)}}
    return make_population(fixed_config(small), devices=some_devices(2))


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


MEMBERS = range(3)


@pytest.fixture
def checkpoints(tmp_path, kept):
    """Writes to a folder with checkpoints after updates 1 to 3, each with contents of its own."""
    checkpointer = Checkpointer(tmp_path / "checkpoints", MEMBERS)
    for update in (1, 2, 3):
        save(checkpointer, kept, update)
    yield checkpointer
    checkpointer.close()


@pytest.fixture
def folder(checkpoints, tmp_path):
    return tmp_path / "checkpoints"


def save(checkpointer, kept, update):
    checkpointer.save(update, at(kept, update), rows=0)
    checkpointer.wait()


def at(kept, update):
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf + np.asarray(update, leaf.dtype), kept[0])


def assert_newest_good(folder, kept, update, damaged):
    """The newest checkpoint that can be read is that after an update, and those before it are damaged."""
    passed = []
    for saved in list_saved(folder):
        try:
            assert not saved.damage
            tree = read_checkpoint(saved, kept[1])
        except Exception:
            passed.append(saved.update)
            continue
        assert saved.update == update
        assert_identical(tree, at(kept, update))
        break
    assert passed == damaged


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


def test_a_checkpoint_comes_back_exactly(folder, kept):
    assert_newest_good(folder, kept, 3, damaged=[])


def test_a_checkpoint_states_what_it_is(folder, kept):
    record = list_saved(folder)[0].record
    assert (record.run, record.first, record.end, record.update, record.rows) == (None, 0, 3, 3, 0)
    assert record.numbers["jax_default_prng_impl"] == "threefry2x32"


def test_only_the_newest_three_are_kept(checkpoints, kept, folder):
    save(checkpoints, kept, 4)
    assert sorted(os.listdir(folder)) == ["2", "3", "4"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_falls_back_to_the_newest_good_one(kept, folder, share):
    damage(folder / "3", lambda content: flip_bit(content, share))
    assert_newest_good(folder, kept, 2, damaged=[3])


def test_a_changed_value_is_noticed_by_its_members_checksum(checkpoints, kept, template, folder, monkeypatch):

    original = checksums.compute

    def changed(arrays, start):
        sums = original(arrays, start)
        return sums + (jnp.arange(len(sums)) == 1).astype(jnp.uint32)

    monkeypatch.setattr(checksums, "compute", changed)
    save(checkpoints, kept, 4)
    monkeypatch.setattr(checksums, "compute", original)
    with pytest.raises(ValueError, match="the checksum does not hold for member 1"):
        read_checkpoint(list_saved(folder)[0], template)


def test_truncated_data_falls_back(kept, folder):
    damage(folder / "3", lambda content: content[: len(content) // 2])
    assert_newest_good(folder, kept, 2, damaged=[3])


def test_an_empty_step_folder_falls_back(kept, folder):
    (folder / "7").mkdir()
    assert_newest_good(folder, kept, 3, damaged=[7])


def test_a_changed_record_is_damage(kept, folder):
    path = folder / "3" / "record" / "metadata"
    path.write_text(path.read_text().replace('"update": 3', '"update": 8'))
    newest = list_saved(folder)[0]
    assert (newest.update, newest.damage) == (3, "the checksum of its record does not hold")


def test_the_record_of_another_checkpoint_is_damage(kept, folder):
    shutil.rmtree(folder / "3" / "record")
    shutil.copytree(folder / "2" / "record", folder / "3" / "record")
    assert_newest_good(folder, kept, 2, damaged=[])
    shutil.rmtree(folder / "2")
    assert_newest_good(folder, kept, 1, damaged=[2])


@pytest.mark.parametrize("name", ["12", "99999999999", "²", "mine"])
def test_what_a_renamed_checkpoint_states_counts(kept, folder, name):
    (folder / "3").rename(folder / name)
    assert_newest_good(folder, kept, 3, damaged=[])


def test_names_that_are_no_update_are_left_out(kept, folder):
    for name in ("²", "99999999999", "-1", "007", "notes"):
        (folder / name).mkdir()
    (folder / "file").touch()
    assert_newest_good(folder, kept, 3, damaged=[])


def test_a_copy_counts_once_and_serves_where_the_original_is_damaged(kept, folder):
    shutil.copytree(folder / "3", folder / "12")
    assert [saved.path.name for saved in list_saved(folder)] == ["3", "2", "1"]
    damage(folder / "3", lambda content: b"")
    with pytest.raises(ValueError, match=r"."):
        read_checkpoint(list_saved(folder)[0], kept[1])


def test_an_existing_checkpoint_is_left_alone(checkpoints, kept, folder):
    save(checkpoints, kept, 3)
    assert_newest_good(folder, kept, 3, damaged=[])


@pytest.mark.parametrize("name", ["run[seed=1]", "a*b?", "back\\slash", "sp ace % #é", "line\nline", "seed=0"])
def test_any_path_that_the_file_system_takes_does(tmp_path, kept, name):
    folder = tmp_path / name / "checkpoints"
    checkpointer = Checkpointer(folder, MEMBERS)
    save(checkpointer, kept, 1)
    checkpointer.close()
    assert_newest_good(folder, kept, 1, damaged=[])
    assert os.listdir(tmp_path) == [name]


class TestBeforeThereWereRecords:
    """Checkpoints without a record, whose checksums begin with their update."""

    @pytest.fixture
    def old(self, tmp_path, kept, monkeypatch):

        checkpointer = Checkpointer(tmp_path / "checkpoints", MEMBERS)
        for update in (1, 2):
            monkeypatch.setattr(
                checksums, "start_of_record", lambda digest, update=update: checksums.start_before_records(update)
            )
            save(checkpointer, kept, update)
            shutil.rmtree(tmp_path / "checkpoints" / str(update) / "record")
        checkpointer.close()
        return tmp_path / "checkpoints"

    def test_come_back(self, old, kept):
        assert_newest_good(old, kept, 2, damaged=[])

    def test_are_damaged_under_another_number(self, old, kept):
        (old / "2").rename(old / "9")
        assert_newest_good(old, kept, 1, damaged=[9])


class TestOtherDevices:
    """A checkpoint of four rows over two devices, read by populations that lie elsewhere."""

    @pytest.fixture
    def saved(self, tmp_path, population):
        checkpointer = Checkpointer(tmp_path / "checkpoints", MEMBERS)
        checkpointer.save(1, population.to_arrays(population.init()), rows=0)
        checkpointer.close()
        return list_saved(tmp_path / "checkpoints")[0]

    @pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 3, 8])
    def test_read_the_same_rows(self, saved, population, devices):
        other = make_population(population.config, devices=some_devices(devices), members_per_device=2)
        own = other.with_members(population.members[: other.capacity])
        tree = read_checkpoint(saved, own.template())
        whole = population.to_host(population.init())
        assert_identical(own.to_host(own.resumed(tree)), jax.tree.map(lambda leaf: leaf[: len(own.members)], whole))

    def test_read_from_any_row_on(self, saved, population):
        one = make_population(population.config, devices=jax.devices()[:1], members_per_device=2)
        last = one.with_members(population.members[2:])
        tree = read_checkpoint(saved, last.template(), first=2)
        resumed = last.resumed(tree)
        whole = population.to_host(population.init())
        assert_identical(last.to_host(resumed), jax.tree.map(lambda leaf: leaf[2:], whole))
        assert last.running(resumed).tolist() == [True]
        assert np.asarray(resumed.diverged).tolist() == [False, True]  # the padding never runs


def test_what_an_interrupted_save_left_is_cleared(folder, kept):
    left = folder / "4.orbax-checkpoint-tmp-123"
    left.mkdir()
    assert_newest_good(folder, kept, 3, damaged=[])
    Checkpointer(folder, MEMBERS).close()
    assert not left.exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: path.symlink_to("nowhere")])
def test_what_looks_like_an_interrupted_save_and_is_none_is_named(tmp_path, make):
    make(tmp_path / "5.orbax-checkpoint-tmp")
    with pytest.raises(ConfigError, match=r"5\.orbax-checkpoint-tmp is in the way"):
        Checkpointer(tmp_path, MEMBERS)
    assert os.path.lexists(tmp_path / "5.orbax-checkpoint-tmp")


@pytest.mark.parametrize(
    "change",
    [
        {"update": "3"},
        {"first": None},
        {"end": 1.5},
        {"rows": True},
        {"structure": {"kernel": 7}},
        {"structure": {"kernel": [[], "float32"]}},
    ],
)
def test_a_record_of_other_types_is_damage_though_its_checksum_holds(tmp_path, change):
    record = {"run": None, "first": 0, "end": 3, "update": 3, "rows": 0, "structure": {}, "numbers": {}} | change
    (tmp_path / "3" / "default").mkdir(parents=True)
    (tmp_path / "3" / "record").mkdir()
    content = {"record": record, "sha256": module._compute_digest(record)}
    (tmp_path / "3" / "record" / "metadata").write_text(json.dumps(content))
    (saved,) = list_saved(tmp_path)
    assert (saved.update, saved.record) == (3, None)
    assert "record" in saved.damage

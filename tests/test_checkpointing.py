import os

import jax
import numpy as np
import pytest

from haepo_jax.checkpointing import Checkpoint, Checkpointer
from haepo_jax.config import from_config_dict
from haepo_jax.population import make_population

# What the storage library leaves behind when it fails on damaged data.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def population():
    small = {"num_seeds": 3, "num_trajectories": 2, "horizon": 5, "policy": {"hidden_sizes": (4,)}}
    return make_population(from_config_dict(small), devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def fresh(population):
    return Checkpoint(population.to_host(population.init()), np.zeros(3, np.int64))


@pytest.fixture
def checkpoints(tmp_path, fresh):
    """A folder with checkpoints after updates 1 to 3, each with contents of its own."""
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    for update in (1, 2, 3):
        checkpointer.save(at(fresh, update))
    yield checkpointer
    checkpointer.close()


def at(fresh, update):
    state = fresh.state.replace(
        updates_done=np.full_like(fresh.state.updates_done, update),
        learner=jax.tree.map(lambda leaf: leaf + np.asarray(update, leaf.dtype), fresh.state.learner),
    )
    return Checkpoint(state, fresh.env_steps + 2**40 * update)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
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


def test_a_checkpoint_comes_back_exactly(checkpoints, fresh):
    found, damaged = checkpoints.restore(fresh)
    assert_identical(found, at(fresh, 3))
    assert damaged == []


def test_an_empty_folder_holds_none(tmp_path, fresh):
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert checkpointer.restore(fresh) == (None, [])
    checkpointer.close()


def test_only_the_newest_three_are_kept(checkpoints, fresh, tmp_path):
    checkpoints.save(at(fresh, 4))
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["2", "3", "4"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_falls_back_to_the_newest_good_one(checkpoints, fresh, tmp_path, share):
    damage(tmp_path / "checkpoints" / "3", lambda content: flip_bit(content, share))
    found, damaged = checkpoints.restore(fresh)
    assert_identical(found, at(fresh, 2))
    assert [damage.update for damage in damaged] == [3]
    assert (tmp_path / "checkpoints_damaged" / "3").is_dir()


def test_a_changed_value_is_told_by_its_members_checksum(checkpoints, fresh, monkeypatch):
    import haepo_jax.checkpointing as module

    original = module._checksums
    monkeypatch.setattr(module, "_checksums", lambda arrays: original(arrays) ^ np.array([0, 1, 0], np.uint32))
    checkpoints.save(at(fresh, 4))
    monkeypatch.setattr(module, "_checksums", original)
    found, damaged = checkpoints.restore(fresh)
    assert_identical(found, at(fresh, 3))
    assert damaged[0].reason == "the checksum does not hold for member 1"


def test_truncated_data_falls_back(checkpoints, fresh, tmp_path):
    damage(tmp_path / "checkpoints" / "3", lambda content: content[: len(content) // 2])
    assert_identical(checkpoints.restore(fresh)[0], at(fresh, 2))


def test_an_empty_step_folder_falls_back(checkpoints, fresh, tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir()
    found, damaged = checkpoints.restore(fresh)
    assert_identical(found, at(fresh, 3))
    assert [damage.update for damage in damaged] == [7]


def test_a_step_under_another_number_falls_back(checkpoints, fresh, tmp_path):
    (tmp_path / "checkpoints" / "3").rename(tmp_path / "checkpoints" / "9")
    assert_identical(checkpoints.restore(fresh)[0], at(fresh, 2))


def test_all_damaged_gives_none_and_says_which(checkpoints, fresh, tmp_path):
    for step in (1, 2, 3):
        damage(tmp_path / "checkpoints" / str(step), lambda content: b"")
    found, damaged = checkpoints.restore(fresh)
    assert found is None
    assert [damage.update for damage in damaged] == [3, 2, 1]


def test_after_a_fallback_the_same_step_is_saved_again(checkpoints, fresh, tmp_path):
    damage(tmp_path / "checkpoints" / "3", lambda content: b"")
    checkpoints.restore(fresh)
    checkpoints.save(at(fresh, 3))
    assert_identical(checkpoints.restore(fresh)[0], at(fresh, 3))


@pytest.mark.parametrize("change", ["dtype", "shape", "structure"])
def test_another_population_is_not_cast_silently(checkpoints, fresh, change):
    if change == "dtype":
        template = fresh._replace(env_steps=fresh.env_steps.astype(np.int32))
    elif change == "shape":
        template = jax.tree.map(lambda leaf: leaf[:2], fresh)
    else:
        template = fresh._replace(state=fresh.state.replace(settings={}))
    assert checkpoints.restore(template)[0] is None


def test_what_an_interrupted_save_left_is_cleared(checkpoints, fresh, tmp_path):
    left = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp-123"
    left.mkdir()
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert_identical(checkpointer.restore(fresh)[0], at(fresh, 3))
    assert not left.exists()
    checkpointer.close()

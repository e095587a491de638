"""A damaged newest checkpoint: what comes back was once saved, to the bit, or it is said that nothing did."""

import collections
import logging
import shutil

import jax
import numpy as np
import pytest
from helpers import campaign
from helpers.devices import some_devices
from helpers.settings import fixed_config

from haepo_jax.population import make_population
from haepo_jax.runs.checkpoints import Checkpointer
from haepo_jax.runs.restore import Source, find_newest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    # What the storage library leaves behind when it fails on damaged data.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NEWEST = 3
MEMBERS = range(3)


def flip_bits(draw, step):
    path, content = _any_file(draw, step)
    for _ in range(draw.choice((1, 1, 8, 64))):
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def truncate(draw, step):
    path, content = _any_file(draw, step)
    path.write_bytes(content[: draw.randrange(len(content))])


def lengthen(draw, step):
    path, content = _any_file(draw, step)
    path.write_bytes(content + draw.randbytes(draw.randrange(1, 4096)))


def zero(draw, step):
    path, content = _any_file(draw, step)
    first, end = sorted((draw.randrange(len(content)), draw.randrange(1, len(content) + 1)))
    content[first:end] = bytes(end - first)
    path.write_bytes(content)


def overwrite(draw, step):
    """Whole sectors hold what belongs elsewhere."""
    path, content = _any_file(draw, step)
    first = draw.randrange(len(content)) // 512 * 512
    length = len(content[first : first + 512])
    content[first : first + 512] = draw.randbytes(length)
    path.write_bytes(content)


def remove(draw, step):
    files = _files(step)
    for path in draw.sample(files, draw.randint(1, len(files))):
        path.unlink()


def write_half(draw, step):
    """Some files, one of them cut short, as if they had been written in place."""
    files = _files(step)
    draw.shuffle(files)
    whole = draw.randrange(len(files))
    content = files[whole].read_bytes()
    files[whole].write_bytes(content[: draw.randrange(len(content))])
    for path in files[whole + 1 :]:
        path.unlink()


def empty(draw, step):
    """A folder of the checkpoint, or all of it, has nothing in it."""
    folder = draw.choice([step, *(path for path in step.rglob("*") if path.is_dir())])
    shutil.rmtree(folder)
    folder.mkdir()


def mix(draw, step):
    """Some of its files are those of the checkpoint before."""
    before = step.with_name(str(NEWEST - 1))
    files = _files(before)
    for path in draw.sample(files, draw.randint(1, len(files))):
        target = step / path.relative_to(before)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def replace(draw, step):
    """It is the one before, under its name."""
    shutil.rmtree(step)
    shutil.copytree(step.with_name(str(NEWEST - draw.randint(1, 2))), step)


DAMAGES = (flip_bits, truncate, lengthen, zero, overwrite, remove, write_half, empty, mix, replace)


@pytest.fixture(scope="module", params=["devices", "host"])
def saved(request, tmp_path_factory):
    """`(folder of three checkpoints, template, contents by update)`, of a population or of NumPy arrays."""
    small = {"num_seeds": 3, "num_trajectories": 2, "horizon": 5, "policy": {"hidden_sizes": (4,)}}
    population = make_population(fixed_config(small), devices=some_devices(2))
    arrays = population.to_arrays(population.init())
    if request.param == "host":
        arrays = jax.tree.map(np.array, arrays)
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpointer = Checkpointer(folder, MEMBERS)
    trees = {}
    for update in range(1, NEWEST + 1):
        trees[update] = jax.tree.map(lambda leaf, u=update: leaf if leaf.dtype == bool else leaf + u, arrays)
        checkpointer.save(update, trees[update], rows=0)
        checkpointer.wait()
    checkpointer.close()
    template = arrays if request.param == "host" else population.template()
    return folder, template, {update: _bits(tree) for update, tree in trees.items()}


@pytest.fixture(autouse=True)
def _without_the_words_of_the_storage_library():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_never_silently_wrong(saved, tmp_path, damage):
    folder, template, bits = saved
    draw = campaign.generator(f"damages: {damage.__name__}")
    outcomes = collections.Counter()
    for _ in range(campaign.count(25)):
        copy = tmp_path / "checkpoints"
        shutil.copytree(folder, copy)
        damage(draw, copy / str(NEWEST))
        found = find_newest(tmp_path, [Source(copy, MEMBERS)], template, MEMBERS)
        assert found is not None  # those before it are whole
        assert _bits(found.tree) == bits[found.update]
        outcomes["harmless" if found.update == NEWEST else "the one before"] += 1
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    print(f"  {dict(outcomes)}", flush=True)


def _bits(tree):
    return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in map(np.asarray, jax.tree.leaves(tree))]


def _files(step):
    return sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)


def _any_file(draw, step):
    path = draw.choice(_files(step))
    return path, bytearray(path.read_bytes())

"""The stream of batches: every epoch a permutation, and the same stream wherever it is taken up again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.batches import Cursor, next_batch, start

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True, database=None)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def numbers(count):
    return np.arange(count)


def stream(arrays, cursor, sizes):
    batches = []
    for size in sizes:
        batch, cursor = next_batch(arrays, cursor, size)
        assert len(batch) == size
        batches.append(batch)
    return np.concatenate(batches) if batches else np.zeros(0, int), cursor


def plain(cursor):
    return tuple(int(field) for field in cursor)


@PROPERTY
@given(count=st.integers(1, 30), seed=st.integers(0, 2**31 - 1), sizes=SIZES)
def test_every_epoch_holds_every_example_once_whatever_the_batches(count, seed, sizes):
    drawn, cursor = stream(numbers(count), start(numbers(count), seed=seed), sizes)
    for first in range(0, len(drawn) - count + 1, count):
        assert sorted(drawn[first : first + count]) == list(range(count))
    rest = drawn[len(drawn) // count * count :]
    assert len(set(rest)) == len(rest)
    assert plain(cursor) == (seed, count, len(drawn) // count, len(drawn) % count)


@PROPERTY
@given(count=st.integers(1, 30), seed=st.integers(0, 99), sizes=SIZES, data=st.data())
def test_a_stream_taken_up_anywhere_is_the_same_stream(count, seed, sizes, data):
    whole, end = stream(numbers(count), start(numbers(count), seed=seed), sizes)
    stop = data.draw(st.integers(0, len(sizes)))
    first, cursor = stream(numbers(count), start(numbers(count), seed=seed), sizes[:stop])
    # Through a checkpoint: the fields come back as arrays of jax, or as plain numbers.
    kept = Cursor(*data.draw(st.sampled_from([plain(cursor), tuple(jnp.asarray(field) for field in cursor)])))
    second, again = stream(numbers(count), kept, sizes[stop:])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert plain(again) == plain(end)


@PROPERTY
@given(count=st.integers(1, 30), seed=st.integers(0, 99), sizes=SIZES)
def test_the_sizes_of_batches_do_not_change_the_order(count, seed, sizes):
    begin = start(numbers(count), seed=seed)
    np.testing.assert_array_equal(
        stream(numbers(count), begin, sizes)[0], next_batch(numbers(count), begin, sum(sizes))[0]
    )


def test_epochs_and_seeds_have_orders_of_their_own():
    begin = start(numbers(100), seed=0)
    two, _ = next_batch(numbers(100), begin, 200)
    other, _ = next_batch(numbers(100), start(numbers(100), seed=1), 100)
    assert not np.array_equal(two[:100], two[100:])
    assert not np.array_equal(two[:100], other)
    assert not np.array_equal(two[:100], numbers(100))


def test_a_batch_larger_than_the_data_covers_several_epochs():
    batch, cursor = next_batch(numbers(3), start(numbers(3), seed=5), 8)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]
    assert plain(cursor) == (5, 3, 2, 2)


def test_rows_of_all_arrays_stay_together():
    arrays = {"a": np.arange(10, dtype=np.int32), "b": (np.arange(20).reshape(10, 2) // 2, np.arange(10) % 2 == 0)}
    batch, _ = next_batch(arrays, start(arrays, seed=1), 7)
    assert batch["a"].shape == (7,) and batch["a"].dtype == np.int32
    np.testing.assert_array_equal(batch["b"][0], np.stack([batch["a"], batch["a"]], axis=1))
    np.testing.assert_array_equal(batch["b"][1], batch["a"] % 2 == 0)


def test_a_cursor_is_small_arrays_as_checkpoints_hold_them():
    _, cursor = next_batch(numbers(4), start(numbers(4), seed=2**31 - 1), 3)
    for leaf in jax.tree.leaves(cursor):
        assert isinstance(leaf, np.ndarray) and leaf.shape == () and leaf.dtype == np.int32


def test_what_a_caller_does_to_a_batch_does_not_change_the_stream():
    begin = start(numbers(5), seed=0)
    batch, _ = next_batch(numbers(5), begin, 5)
    expected = batch.copy()
    batch[:] = -1
    np.testing.assert_array_equal(next_batch(numbers(5), begin, 5)[0], expected)


class TestRefusal:
    def test_of_another_data_set(self):
        with pytest.raises(ConfigError) as error:
            next_batch(numbers(9), start(numbers(10), seed=0), 2)
        assert str(error.value) == (
            "The run was started on 10 examples, and the data set now has 9; continue with the same data."
        )

    @pytest.mark.parametrize("size", [0, -3])
    def test_of_an_empty_batch(self, size):
        with pytest.raises(ConfigError, match=f"^A batch has at least 1 example, got {size}.$"):
            next_batch(numbers(9), start(numbers(9), seed=0), size)

    @pytest.mark.parametrize(
        ("arrays", "found"),
        [({"a": np.zeros(3), "b": np.zeros((2, 3))}, "2 and 3"), (np.zeros((0, 2)), "0"), ({}, "no arrays")],
    )
    def test_of_arrays_that_are_no_data_set(self, arrays, found):
        sentence = f"^A data set is arrays with as many rows each, at least 1; got {found}.$"
        with pytest.raises(ConfigError, match=sentence):
            start(arrays, seed=0)

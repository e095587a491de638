import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import some_devices

from haepo_jax.population.layout import OVER_MEMBERS, goes_in_tiles, make_layout, rows_here


def layout_of(num_members=5, num_devices=3, *, members_per_device=None, trajectories=4, steps=100, shared_by=1):
    return make_layout(
        num_members,
        some_devices(num_devices),
        members_per_device=members_per_device,
        trajectory_devices=shared_by,
        num_trajectories=trajectories,
        batch_steps=steps,
    )


@pytest.mark.parametrize(
    ("num_members", "num_devices", "given", "expected"),
    [
        (5, 3, None, 2),
        (7, 3, None, 3),
        (1, 1, None, 2),
        (1, 8, None, 2),
        (100, 1, None, 100),
        (5, 3, 1, 1),
        (5, 1, 9, 9),
    ],
)
def test_a_device_has_as_many_members_as_let_all_run_at_once_and_at_least_two(
    num_members, num_devices, given, expected
):
    layout = layout_of(num_members, num_devices, members_per_device=given)
    assert (layout.members_per_device, layout.capacity) == (expected, expected * num_devices)


def test_devices_that_share_trajectories_hold_the_same_members():
    layout = layout_of(6, 8, shared_by=4)
    assert dict(layout.mesh.shape) == {"members": 2, "trajectories": 4}
    assert (layout.members_per_device, layout.capacity, layout.trajectory_devices) == (3, 6, 4)
    assert [device.id for device in layout.mesh.devices[1]] == [4, 5, 6, 7]  # neighbours


@pytest.mark.parametrize(
    ("members", "trajectories", "expected"), [(100, 16, 16), (100, 200, 2), (3, 16, 3), (1000, 1, 256)]
)
def test_a_tile_has_about_256_episodes_and_at_least_two_members(members, trajectories, expected):
    layout = layout_of(members, 1, members_per_device=members, trajectories=trajectories, steps=8000)
    assert layout.tile == layout.played_together == expected


def test_members_that_go_in_no_tiles_play_all_together():
    for layout in (layout_of(steps=512), layout_of(6, 8, shared_by=4, steps=8000)):
        assert layout.tile is None and layout.played_together == layout.members_per_device


def test_only_large_batches_on_a_cpu_go_in_tiles():
    cpu, accelerator = jax.devices()[0], types.SimpleNamespace(platform="gpu")
    assert [goes_in_tiles(cpu, steps) for steps in (2, 512, 8000, 10**6)] == [False, False, True, True]
    assert not any(goes_in_tiles(accelerator, steps) for steps in (2, 8000, 10**6))


def test_rows_are_placed_with_the_last_one_as_padding():
    layout, rows = layout_of(), np.arange(10).reshape(5, 2)
    placed = layout.place(rows)
    np.testing.assert_array_equal(placed, [*rows, rows[-1]])
    np.testing.assert_array_equal(layout.is_member(5), [True] * 5 + [False])
    assert [shard.data.shape for shard in placed.addressable_shards] == [(2, 2)] * 3
    np.testing.assert_array_equal(rows_here(placed, axis=0), placed)
    assert layout.is_here.tolist() == [True] * 6


def test_each_device_computes_its_own_members():
    layout = layout_of()
    totals = layout.over_devices(lambda rows: jnp.zeros_like(rows) + rows.sum(), OVER_MEMBERS, OVER_MEMBERS)
    np.testing.assert_array_equal(totals(layout.place(np.arange(6))), [1, 1, 5, 5, 9, 9])

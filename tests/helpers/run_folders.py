"""What a run has left: its rows, its checkpoints, and whether two runs ended alike; and the settings of a tiny one."""

import shutil
import time

import jax
import numpy as np
import pyarrow.dataset

from haepo_jax.runs.states import load_states

TINY = {
    "env": "GaussianBandit-haepo",
    "num_seeds": 2,
    "num_updates": 3,
    "num_trajectories": 4,
    "policy": {"hidden_sizes": (4,)},
    "haepo": {"num_epochs": 1},
}
"""The settings of a run of a second."""


def table(workdir):
    """All metric rows in the order of (member, update)."""
    rows = pyarrow.dataset.dataset(workdir / "metrics", format="parquet").to_table()
    return rows.sort_by([("member", "ascending"), ("update", "ascending")])


def assert_same_end(left, right):
    rows, others = table(left), table(right)
    assert rows.schema == others.schema
    for name in rows.column_names:  # not Table.equals, to which NaN is unlike itself
        np.testing.assert_array_equal(rows[name], others[name])
    for (a, state_a, done_a), (b, state_b, done_b) in zip(load_states(left), load_states(right), strict=True):
        assert done_a == done_b
        for x, y in zip(jax.tree.leaves(a.to_host(state_a)), jax.tree.leaves(b.to_host(state_b)), strict=True):
            np.testing.assert_array_equal(x, y)


def cut_off(finished, workdir, update):
    """Copies a run as a kill leaves it: what was written after this update is gone."""
    shutil.copytree(finished, workdir)
    (workdir / "summary.json").unlink()
    for done in checkpoints(workdir):
        if done > update:
            shutil.rmtree(next(workdir.glob(f"checkpoints/members-*/{done}")))
    assert checkpoints(workdir)[-1] == update
    return workdir


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def checkpoints(workdir):
    return sorted(int(path.name) for path in workdir.glob("checkpoints/members-*/*") if path.name.isdigit())

"""What the faults share: the sweep that they disturb, their moments, and the end that it must come to all the same."""

import contextlib
import json
import os
import random
import shutil
import time
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from helpers import pods
from helpers.run_folders import checkpoints, table

SWEEP = (*pods.SMALL, "--config.num_updates=300")
"""On two devices, two waves of six members."""
DEVICES = 2
HANG_SECONDS = 120

SEED = int(os.environ.get("HAEPO_FAULTS_SEED") or random.SystemRandom().randrange(2**32))
_MOST = int(os.environ.get("HAEPO_FAULTS") or 1000)
_IN_A_SAVE = 0.3  # share of the moments
_SAVE_SECONDS = 0.1


def count(full):
    """How many faults of a kind; fewer with HAEPO_FAULTS=3, for a quick look."""
    return min(full, _MOST)


def generator(kind, number=0):
    """What draws the moments and the damages; printed, so that the same are drawn again by HAEPO_FAULTS_SEED."""
    print(f"\n{kind} {number} of HAEPO_FAULTS_SEED={SEED}", flush=True)
    return random.Random(f"{SEED} {kind} {number}")


class End(NamedTuple):
    """All that a run is for."""

    rows: dict
    """Columns of the metrics."""
    states: dict
    """By wave: the updates of its newest checkpoint, and every array there but the checksums, which begin with the
    run's id."""
    members: list
    """What the summary says of each."""


class Undisturbed(NamedTuple):
    end: End
    seconds: float
    """How long it takes, once its programs are compiled."""


def end(workdir):
    rows = table(workdir)
    states = {}
    for wave in sorted((workdir / "checkpoints").iterdir()):
        newest = max(int(step.name) for step in wave.iterdir())
        states[wave.name] = (newest, contents(wave / str(newest)))
    members = json.loads((workdir / "summary.json").read_text())["members"]
    return End({name: rows[name].to_numpy() for name in rows.column_names}, states, members)


def contents(step):
    """The arrays of a checkpoint by name, as the storage library reads them."""
    handler = ocp.StandardCheckpointHandler()
    stored = handler.metadata(step / "default").tree
    arrays = {name: np.empty(array.shape, array.dtype) for name, array in stored.items()}
    found = handler.restore(step / "default", args=ocp.args.StandardRestore(arrays))
    del found["checksums"]
    return found


def assert_same(left, right):
    np.testing.assert_equal(left.rows, right.rows)
    np.testing.assert_equal(left.states, right.states)
    assert left.members == right.members


def struck(workdir, arguments, strike, times, undisturbed, draw):
    """Strikes a sweep at random moments and starts it again until it has been struck so often and has ended.

    Each run that ends is held against the undisturbed one; one that does so too early makes way for another.

    Yields:
      What each attempt left that was struck before it had ended.
    """
    left = times
    while True:
        started = time.monotonic()
        (command,) = pods.start(workdir, *arguments, processes=1, devices_each=DEVICES)
        if left:
            wait_for_a_moment([command], workdir, undisturbed.seconds, draw)
            moment = time.monotonic() - started
            strike(command)
        finished = command.wait(HANG_SECONDS)
        assert "damaged" not in finished.out  # as a checkpoint is there as a whole or not at all
        if finished.code:
            assert left, finished.err
            print(f"  {moment:.1f} s: exit code {finished.code}, checkpoints {checkpoints(workdir)}", flush=True)
            left -= 1
            yield finished
            continue
        assert_same(end(workdir), undisturbed.end)
        if not left:
            return
        shutil.rmtree(workdir)


def wait_for_a_moment(commands, workdir, seconds, draw):
    """Some time from now within so many seconds, or in the midst of the next save after it."""
    time.sleep(draw.uniform(0.0, seconds))
    if draw.random() < _IN_A_SAVE:
        while all(command.running for command in commands) and not _saves(workdir):
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, _SAVE_SECONDS))


def send(number):
    """A strike: a signal."""

    def strike(command):
        with contextlib.suppress(ProcessLookupError):
            if command.running:
                os.kill(command.pid, number)

    return strike


def _saves(workdir):
    return any(workdir.glob("checkpoints/*/*tmp*")) or any(workdir.glob("metrics/.*.tmp"))

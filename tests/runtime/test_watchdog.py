import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import held_stages

from haepo_jax.runtime import watchdog
from haepo_jax.runtime.watchdog import Watchdog

PROGRAM = """
import time
from haepo_jax.runtime.watchdog import Watchdog
with Watchdog(0.5) as watched:
    watched.alive()
    time.sleep(60)
"""


def test_a_standstill_ends_the_process_with_its_stacks():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 42
    assert "Nothing has moved for 0.5 s" in ended.stderr and "--stall_seconds" in ended.stderr
    assert "most recent call first" in ended.stderr
    assert ended.stdout == ""


@pytest.fixture
def ended(monkeypatch):
    """The exit codes with which watchdogs of this process would have ended it."""
    codes = []
    monkeypatch.setattr(watchdog.os, "_exit", codes.append)
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", lambda **_: None)
    return codes


@pytest.mark.parametrize(
    "live",
    [
        lambda watched: time.sleep(0.4),  # paused, as it begins
        lambda watched: (watched.alive(), watched.pause(), time.sleep(0.4)),
        lambda watched: [(watched.alive(), time.sleep(0.05)) for _ in range(10)],
    ],
)
def test_signs_of_life_and_pauses_keep_the_process_running(ended, live):
    with Watchdog(0.2) as watched:
        live(watched)
    assert not ended


@pytest.mark.parametrize(("expected", "codes"), [(0.1, set()), (0.02, {42})])
def test_ten_times_what_was_expected_is_never_too_long(ended, expected, codes):
    with Watchdog(0.1) as watched:
        watched.alive(expected)
        time.sleep(0.5)
    assert set(ended) == codes


def test_time_in_which_the_process_was_stopped_does_not_count(ended, monkeypatch):
    stopped = 0.0
    monkeypatch.setattr(watchdog.time, "monotonic", lambda monotonic=time.monotonic: monotonic() + stopped)
    with Watchdog(0.5) as watched:
        watched.alive()
        time.sleep(0.1)
        stopped = 1000.0
        time.sleep(0.1)
    assert not ended


@pytest.mark.slow
def test_a_first_update_may_take_longer_than_a_standstill(tmp_path):
    arguments = (*held_stages.TINY, "--stall_seconds=5", f"--workdir={tmp_path / 'run'}")
    held = {"stage": "first chunk", "seconds": 8.0, "marker": tmp_path / "there"}
    finished = held_stages.started("experiments.train", *arguments, **held).wait()
    assert finished.code == 0, finished.err


@pytest.mark.slow
def test_a_run_that_is_stopped_for_longer_than_a_standstill_resumes(tmp_path):
    arguments = (*held_stages.TINY, "--config.num_updates=300", "--stall_seconds=5", f"--workdir={tmp_path / 'run'}")
    held = {"stage": "saving", "seconds": 1.0, "marker": tmp_path / "there"}
    command = held_stages.started("experiments.train", *arguments, **held)
    os.kill(command.pid, signal.SIGSTOP)
    time.sleep(8)
    os.kill(command.pid, signal.SIGCONT)
    finished = command.wait()
    assert finished.code == 0, finished.err

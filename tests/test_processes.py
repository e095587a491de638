"""One sweep over several processes: that it gives what one process gives, and what stopping one does to the others."""

import json
import os
import signal
import time

import jax
import pods
import pyarrow.dataset
import pytest
from run_folders import assert_same_end, checkpoints, wait_for

from haepo_jax import processes
from haepo_jax.errors import ConfigError, Stalled


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep by one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    (finished,) = pods.run(workdir, *pods.SMALL)
    assert finished.code == 0, finished.err
    return workdir


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_two_processes_give_the_bits_of_one(alone, tmp_path):
    workdir = tmp_path / "run"
    for finished in pods.run(workdir, *pods.SMALL, processes=2, devices_each=2):
        assert finished.code == 0, finished.err
    assert_same_end(workdir, alone)
    assert summary(workdir)["members"] == summary(alone)["members"]
    for process in (0, 1):  # each writes its own members
        parts = list((workdir / "metrics").glob(f"part-{process:05d}-*.parquet"))
        members = set(pyarrow.dataset.dataset(parts).to_table(["member"])["member"].to_pylist())
        assert members == set(range(6 * process, 6 * process + 6))
    names = {path.name for path in workdir.glob("provenance*")}
    assert names == {"provenance.json", "provenance-00001.json"}


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_update_and_others_go_on_from_there(alone, tmp_path):
    workdir = tmp_path / "run"
    first, second = pods.start(workdir, *pods.SMALL, "--checkpoint_seconds=0", processes=2, devices_each=2)
    wait_for(lambda: len(checkpoints(workdir)) >= 1)
    os.kill(second.pid, signal.SIGTERM)
    stopped = [command.wait() for command in (first, second)]
    assert [finished.code for finished in stopped] == [143, 143], stopped
    update = checkpoints(workdir)[-1]
    assert all(f"Stopped after update {update} of 400" in finished.err for finished in stopped)
    # With half the devices, in two waves, neither of which was there before.
    (finished,) = pods.run(workdir, *pods.SMALL, devices_each=2)
    assert finished.code == 0, finished.err
    assert f"Going on after update {update} of 400." in finished.out
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {
        *("members-000000-000012", "members-000000-000006", "members-000006-000012")
    }
    rows, others = (
        pyarrow.dataset.dataset(folder / "metrics")
        .to_table()
        .sort_by([("member", "ascending"), ("update", "ascending")])
        for folder in (workdir, alone)
    )
    assert rows.equals(others)
    assert summary(workdir)["members"] == summary(alone)["members"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_all_go_on(alone, tmp_path, victim):
    workdir, heartbeat = tmp_path / "run", 5
    arguments = (*pods.SMALL, "--checkpoint_seconds=0", f"--heartbeat_seconds={heartbeat}")
    commands = pods.start(workdir, *arguments, processes=2, devices_each=2)
    wait_for(lambda: len(checkpoints(workdir)) >= 2)
    os.kill(commands[victim].pid, signal.SIGKILL)
    started = time.monotonic()
    assert commands[victim].wait().code == -signal.SIGKILL
    left = commands[1 - victim].wait(seconds=120)
    assert time.monotonic() - started < heartbeat + 5
    assert left.code not in (0, 2, 4), left
    for finished in pods.run(workdir, *arguments, processes=2, devices_each=2):
        assert finished.code == 0, finished.err
    assert_same_end(workdir, alone)


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed_by_the_other(alone, tmp_path):
    workdir = tmp_path / "run"
    arguments = (*pods.SMALL, "--checkpoint_seconds=0", "--heartbeat_seconds=600")
    first, second = pods.start(workdir, *arguments, "--stall_seconds=20", processes=2, devices_each=2)
    wait_for(lambda: len(checkpoints(workdir)) >= 1)
    os.kill(second.pid, signal.SIGSTOP)
    stalled = first.wait(seconds=120)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    assert stalled.code == 42
    assert "Nothing has moved for 20 s" in stalled.err
    assert "most recent call first" in stalled.err  # the stacks
    for finished in pods.run(workdir, *arguments, processes=2, devices_each=2):
        assert finished.code == 0, finished.err
    assert_same_end(workdir, alone)


@pytest.mark.slow
def test_four_processes_of_one_device_give_the_same_bits(alone, tmp_path):
    workdir = tmp_path / "run"
    for finished in pods.run(workdir, *pods.SMALL, processes=4, devices_each=1, seconds=600):
        assert finished.code == 0, finished.err
    assert_same_end(workdir, alone)


def test_a_second_run_on_the_folder_is_refused_by_all_its_processes(alone, tmp_path):
    refused = pods.run(alone, *pods.SMALL, "--config.seed=9", processes=2, devices_each=2)
    assert [finished.code for finished in refused] == [2, 2]
    assert "holds a run with another config: seed (was 0, now 9)" in refused[0].err
    assert "Process 0 cannot use --workdir" in refused[1].err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("127.0.0.1:1", None, None), "go together; missing: --num_processes, --process_id."),
        ((None, 2, 1), "go together; missing: --coordinator."),
        (("127.0.0.1:1", 2, 2), "--process_id=2 must be below --num_processes=2; it counts from 0."),
    ],
)
def test_flags_that_do_not_fit_are_told(given, sentence):
    with pytest.raises(ConfigError, match="--"):
        processes.initialize(*given, heartbeat_seconds=30)
    with pytest.raises(ConfigError) as raised:
        processes.initialize(*given, heartbeat_seconds=30)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("count", "kind", "told", "expected"),
    [
        (2, jax.errors.JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout.", Stalled),
        (2, jax.errors.JaxRuntimeError, "INTERNAL: the program is wrong", TimeoutError),
        (1, jax.errors.JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout.", TimeoutError),
        (2, ValueError, "UNKNOWN: Gloo AllGather failed: Connection closed", Stalled),
        (2, ValueError, "Connection is not the name of a setting", TimeoutError),
    ],
)
def test_an_error_of_a_library_that_comes_from_a_lost_process_says_so(monkeypatch, count, kind, told, expected):
    monkeypatch.setattr(jax, "process_count", lambda: count)

    def save():
        try:
            raise kind(told)
        except kind as error:
            raise TimeoutError("a save timed out") from error

    with pytest.raises(expected), processes.company():
        save()

"""One sweep over several processes: that it gives what one process gives, and what stopping one does to the others."""

import contextlib
import json
import os
import signal
import time
import types

import jax
import numpy as np
import pyarrow.dataset
import pytest
from helpers import pods
from helpers.run_folders import assert_same_end, checkpoints, wait_for

from haepo_jax.errors import ConfigError, Stalled
from haepo_jax.runtime import meeting, processes


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
def test_a_signal_to_one_process_stops_all_at_the_same_update_and_others_resume_there(alone, tmp_path):
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
    assert f"Resuming after update {update} of 400." in finished.out
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
def test_a_killed_process_ends_the_other_and_all_resume(alone, tmp_path, victim):
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
    assert "Process 0 cannot take part: --workdir" in refused[1].err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("127.0.0.1:1", None, None), "go together; missing: --num_processes, --process_id."),
        ((None, 2, 1), "go together; missing: --coordinator."),
        ((None, None, 0), "go together; missing: --coordinator, --num_processes."),
        ((None, 1, 5), "go together; missing: --coordinator."),
        (("127.0.0.1:1", 2, 2), "--process_id=2 must be below --num_processes=2; it counts from 0."),
        (("127.0.0.1:1", 1, 5), "--process_id=5 must be below --num_processes=1; it counts from 0."),
        (("127.0.0.1:1", 2, -1), "--process_id=-1 must be below --num_processes=2; it counts from 0."),
        (("127.0.0.1:1", 0, 0), "--num_processes=0 must be 1 or more."),
        (("127.0.0.1", 1, 0), "--coordinator='127.0.0.1' must be HOST:PORT of process 0"),
        ((":99999", 2, 1), "--coordinator=':99999' must be HOST:PORT of process 0"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(given, sentence):
    with pytest.raises(ConfigError) as raised:
        processes.initialize(*given)
    assert sentence in str(raised.value)


def test_a_process_with_another_config_is_refused_by_all_before_anything_is_made(tmp_path):
    workdir = tmp_path / "runs" / "one"
    refused = pods.run(workdir, *pods.SMALL, of_the_last=["--config.optimizer.learning_rate=0.5"], processes=2)
    assert [finished.code for finished in refused] == [2, 2], refused
    for finished in refused:
        assert (
            "The processes of this run differ: config.optimizer.learning_rate is 0.003 on process 0, 0.5 on process 1."
        ) in finished.err
    assert not list(tmp_path.iterdir())


OF_THE_LAST = {
    "seed": (["--config.seed=9"], "config.seed is 0 on process 0, 9 on process 1"),
    "number of updates": (["--config.num_updates=3"], "config.num_updates is 400 on process 0, 3 on process 1"),
    "number of seeds": (["--config.num_seeds=3"], "config.num_seeds is 2 on process 0, 3 on process 1"),
    "sweep": (["--config.sweep.haepo.kl_coef=(0.0,0.5)"], "config.sweep.haepo.kl_coef is [0.0, 0.02] on process 0, "),
    "members of a device": (["--members_per_device=4"], "--members_per_device is 3 on process 0, 4 on process 1"),
    "plan": (["--dry_run"], "--dry_run is false on process 0, true on process 1"),
    "logged members": (["--loggers=tensorboard", "--logged_members=99"], "--logged_members=99 is no member"),
    "number of processes": (["--num_processes=3"], "Process 1 was started with --num_processes=3, process 0 with"),
    "folder": (["--workdir={other}"], "is another folder on process 1 than on process 0"),
    "a setting that is not allowed": (["--config.seed=-1"], "config.seed must be"),
    "its number": (["--process_id=5"], "--process_id=5 must be below --num_processes=2"),
    "an unknown flag": (["--config.sede=1"], "--config.sede is not a setting"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "sentence"), OF_THE_LAST.values(), ids=OF_THE_LAST.keys())
def test_whatever_differs_in_one_process_ends_all_with_a_sentence(tmp_path, arguments, sentence):
    other = tmp_path / "other"
    arguments = [argument.format(other=other) for argument in arguments]
    refused = pods.run(tmp_path / "run", *pods.SMALL, of_the_last=arguments, processes=2, seconds=60)
    assert [finished.code for finished in refused] == [2, 2], refused
    assert all(sentence in finished.err for finished in refused), refused
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_that_nobody_joins_ends_with_a_sentence(tmp_path):
    together = [f"--coordinator=127.0.0.1:{pods.free_port()}", "--num_processes=2", "--join_seconds=2"]
    for process, sentence in enumerate(("Process 1 of 2 did not join", "Process 0 could not be reached")):
        (alone,) = pods.run(tmp_path / "run", *pods.SMALL, *together, f"--process_id={process}", seconds=60)
        assert alone.code == 42, alone
        assert sentence in alone.err
        assert "(--join_seconds" in alone.err


@pytest.mark.slow
def test_processes_with_unequal_numbers_of_devices_are_refused(tmp_path):
    refused = pods.run(tmp_path / "run", *pods.SMALL, processes=2, devices_each=(1, 3))
    assert [finished.code for finished in refused] == [2, 2], refused
    assert all("process 0 has 1, process 1 has 3" in finished.err for finished in refused)


@pytest.mark.slow
def test_a_process_without_members_has_nothing_to_warn_of(tmp_path):
    arguments = (*pods.SMALL, "--config.sweep.haepo.entropy_coef=(0.0,)", "--config.sweep.haepo.kl_coef=(0.0,)")
    ended = pods.run(tmp_path / "run", *arguments, "--config.num_updates=20", processes=2, devices_each=1)
    assert [finished.code for finished in ended] == [0, 0], ended
    assert not any("Warning" in finished.err for finished in ended)


def test_what_one_process_refuses_all_refuse(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes, "texts", lambda own: ["", "config.seed is wrong.", ""])
    sentence = r"Process 1 cannot take part: config\.seed is wrong\."
    with pytest.raises(ConfigError, match=sentence), processes.all_or_none():
        pass
    words = []
    monkeypatch.setattr(processes, "texts", lambda own: words.append(own) or ["", own, ""])
    with pytest.raises(ConfigError, match=r"^config\.seed is wrong\.$"), processes.all_or_none():
        raise ConfigError("config.seed is wrong.")
    assert words == ["config.seed is wrong."]


def test_texts_of_any_length_reach_all(monkeypatch):
    others = "longer than the other one, with \N{LATIN SMALL LETTER U WITH DIAERESIS}"
    monkeypatch.setattr(processes, "gathered", lambda values: np.stack([values, _as_other(values, others)]))
    assert processes.texts("") == ["", others]


def _as_other(values, text):
    content = np.frombuffer(text.encode(), np.uint8)
    return np.full(values.shape, len(content)) if values.ndim == 0 else content


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--coordinator=h:1", "--num_processes=2", "--process_id=1"], ("h", 1, 1)),
        (["-coordinator", "h:1", "--x", "-num_processes", "2", "-process_id", "0"], ("h", 1, 0)),
        (["--coordinator=h:1", "--num_processes=2", "--process_id=5"], ("h", 1, 5)),
        (["--coordinator=h:1", "--num_processes=2"], ("h", 1, None)),
        (["--coordinator=h:1", "--process_id=two"], ("h", 1, None)),
        (["--coordinator=h:1", "--num_processes=2", "--process_id"], ("h", 1, None)),
        (["--coordinator=h", "--num_processes=2", "--process_id=1"], None),
        ([], None),
    ],
)
def test_a_refusal_is_reported_where_the_flags_say_how(monkeypatch, arguments, expected):
    reported = []
    monkeypatch.setattr(meeting, "report_refusal", lambda *given: reported.append(given))
    processes.report_refusal(["sweep", *arguments], ConfigError("why"))
    assert reported == ([] if expected is None else [(expected[:2], expected[2], "why")])


def test_a_refusal_that_all_have_learnt_is_not_reported_again(monkeypatch):
    monkeypatch.setattr(meeting, "report_refusal", lambda *given: pytest.fail("reported"))
    processes.report_refusal(["sweep", "--coordinator=h:1", "--process_id=1"], meeting.NotMet("why"))


@pytest.mark.parametrize(
    ("count", "kind", "words", "expected"),
    [
        (2, jax.errors.JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout.", Stalled),
        (2, jax.errors.JaxRuntimeError, "INTERNAL: the program is wrong", TimeoutError),
        (1, jax.errors.JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout.", TimeoutError),
        (2, ValueError, "UNKNOWN: Gloo AllGather failed: Connection closed", Stalled),
        (2, ValueError, "Connection is not the name of a setting", TimeoutError),
    ],
)
def test_an_error_of_a_library_that_comes_from_a_lost_process_says_so(monkeypatch, count, kind, words, expected):
    monkeypatch.setattr(jax, "process_count", lambda: count)

    def save():
        try:
            raise kind(words)
        except kind as error:
            raise TimeoutError("a save timed out") from error

    with pytest.raises(expected), processes.company():
        save()


@pytest.mark.parametrize(("owners", "refused"), [((0, 0, 1, 1), False), ((0, 1, 1, 1), True), ((0, 0), True)])
def test_unequal_numbers_of_devices_are_refused(monkeypatch, owners, refused):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(process_index=owner) for owner in owners])
    with pytest.raises(ConfigError, match="as many devices as each other") if refused else contextlib.nullcontext():
        processes._check_devices()

"""Processes that meet before JAX joins them, here as threads on loopback."""

import contextlib
import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.pods import free_port

from haepo_jax.errors import ConfigError, Stalled
from haepo_jax.runtime import meeting
from haepo_jax.runtime.meeting import Address


@pytest.fixture
def address():
    return Address("127.0.0.1", free_port())


def outcome(address, num_processes, process_id, seconds=20.0):
    """None, or the sentence by which a process is refused."""
    try:
        company = meeting.meet(address, num_processes, process_id, seconds, end=None)
    except (ConfigError, Stalled) as error:
        return str(error)
    if company is not None:
        company.part()
    return None


def all_outcomes(address, *processes):
    """Of `(num_processes, process_id)` pairs, at once."""
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda process: outcome(address, *process), processes))


def test_processes_that_fit_together_meet(address):
    assert all_outcomes(address, (3, 0), (3, 1), (3, 2)) == [None] * 3


def test_a_process_that_comes_first_waits_for_process_0(address):
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(outcome, address, 2, 1)
        time.sleep(0.5)
        assert not second.done()
        assert outcome(address, 2, 0) is None
        assert second.result() is None


def test_a_process_alone_has_nobody_to_wait_for(address):
    assert outcome(address, 1, 0) is None


@pytest.mark.parametrize("process_id", [1, 2])
def test_another_number_of_processes_is_reported_by_all(address, process_id):
    first, second = all_outcomes(address, (2, 0), (3, process_id))
    assert first == second
    assert f"Process {process_id} was started with --num_processes=3, process 0 with --num_processes=2" in first


def test_one_number_given_to_two_processes_is_reported_by_all(address):
    sentences = all_outcomes(address, (3, 0), (3, 1), (3, 1))
    assert len(set(sentences)) == 1
    assert "Two processes were started with --process_id=1" in sentences[0]


def test_a_process_that_was_started_again_takes_the_place_of_its_former_self(address):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(outcome, address, 3, 0)
        with pytest.raises(OSError, match="stopped"):
            _come_and_go(address)
        second = pool.submit(outcome, address, 3, 2)
        time.sleep(0.3)  # both are there but for the one that has gone
        assert not first.done() and not second.done()
        assert outcome(address, 3, 1) is None
        assert first.result() is None and second.result() is None


def _come_and_go(address):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with socket.create_connection(address) as connection:
                connection.sendall(b'{"greeting": "haepo_jax meeting", "process_id": 1, "num_processes": 3}\n')
                time.sleep(0.2)
            raise OSError("stopped")
        except ConnectionRefusedError:
            time.sleep(0.05)


def test_a_process_that_does_not_come_is_named(address):
    first, second = ThreadPoolExecutor(2).map(lambda k: outcome(address, 4, k, 1.0), (0, 2))
    assert "Processes 1, 3 of 4 did not join" in first and "within 1 s (--join_seconds)" in first
    assert second == first or "could not be reached" in second


def test_to_start_again_helps_those_alone_whom_others_let_wait(address):
    with pytest.raises(Stalled):
        meeting.meet(address, 2, 0, 0.2, None)
    with pytest.raises(Stalled):
        meeting.meet(address, 2, 1, 0.2, None)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(outcome, address, 3, 1)
        with pytest.raises(ConfigError):
            meeting.meet(address, 2, 0, 10, None)


def test_a_missing_process_0_is_reported(address):
    started = time.monotonic()
    sentence = outcome(address, 2, 1, 0.5)
    assert time.monotonic() - started < 5
    assert f"Process 0 could not be reached at --coordinator=127.0.0.1:{address.port} within 0.5 s" in sentence


@pytest.mark.parametrize(
    ("refused", "who"), [(0, "Process 0"), (1, "Process 1"), (7, "Process 7"), (None, "A process")]
)
def test_the_reason_why_one_cannot_take_part_ends_the_others(monkeypatch, address, refused, who):
    monkeypatch.setattr(meeting, "_REPORT_SECONDS", 2.0)
    report = threading.Thread(target=meeting.report_refusal, args=(address, refused, "config.seed is wrong."))
    report.start()
    assert outcome(address, 2, 1 if refused == 0 else 0) == f"{who} cannot take part: config.seed is wrong."
    report.join(5)
    assert not report.is_alive()


def test_a_reason_from_another_moves_no_cursor(monkeypatch, address):
    monkeypatch.setattr(meeting, "_REPORT_SECONDS", 2.0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(meeting.report_refusal, address, 1, "a\nb \x1b[2J " + "long " * 2000)
        sentence = outcome(address, 2, 0)
    assert sentence.startswith("Process 1 cannot take part: a b \\x1b[2J long ")
    assert len(sentence) < 1000


def test_a_reason_that_nobody_hears_is_given_up(monkeypatch, address):
    monkeypatch.setattr(meeting, "_REPORT_SECONDS", 0.3)
    started = time.monotonic()
    for process_id in (0, 1):
        meeting.report_refusal(address, process_id, "config.seed is wrong.")
    assert time.monotonic() - started < 3


@pytest.fixture
def three(address):
    """The companies of three processes that have met, and how they were ended."""
    ends = [queue.Queue() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        companies = list(
            pool.map(lambda k: meeting.meet(address, 3, k, 20, lambda *given: ends[k].put(given)), range(3))
        )
    yield companies, ends
    for company in companies:
        company.part()


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_whoever_refuses_while_the_run_begins_ends_all_others(three, refused):
    companies, ends = three
    companies[refused].refuse("There is no GPU.")
    for process in {0, 1, 2} - {refused}:
        assert ends[process].get(timeout=10) == (f"Process {refused} cannot take part: There is no GPU.", 2)
    assert ends[refused].empty()


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_whoever_is_gone_while_the_run_begins_ends_all_others(three, gone):
    companies, ends = three
    companies[gone]._parted.set()  # it does not watch any more
    for connection in companies[gone]._others.values():
        connection.shutdown(socket.SHUT_RDWR)  # as the system does when a process has ended
    for process in {0, 1, 2} - {gone}:
        sentence, code = ends[process].get(timeout=10)
        assert code == 42
        assert sentence.startswith(f"Process {gone} ended while the run began.")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_who_has_parted_ends_nobody(three, order):
    companies, ends = three
    for process in order:
        companies[process].part()
        time.sleep(0.3)
    assert all(end.empty() for end in ends)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"[1]\n", b'{"process_id": 1}\n'])
def test_a_stranger_at_the_port_is_passed_over(address, sent):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcome, address, 2, 0)
        while not first.done():
            try:
                # It may be sent away before all of this is done.
                with socket.create_connection(address) as connection, contextlib.suppress(OSError):
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        assert outcome(address, 2, 1) is None
        assert first.result() is None


def test_a_port_in_use_is_reported(monkeypatch, address):
    monkeypatch.setattr(meeting, "_PATIENCE_SECONDS", 0.2)
    with socket.create_server(("", address.port)):
        sentence = outcome(address, 2, 0)
    assert f"Process 0 cannot listen at port {address.port} of this host (Address already in use)" in sentence


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("10.0.0.5:8476", ("10.0.0.5", 8476)),
        ("host-0.service.local:1", ("host-0.service.local", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_read(given, expected):
    assert meeting.parse_address(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        *("", "127.0.0.1", "127.0.0.1:", ":8476", ":abc", "host:abc", "host:0", "host:65536", "host:99999"),
        *("host:-1", "host:1.5", "host:٣", "http://host:80", "a b:80", "::1:80", "[::1]", "[1.2.3.4]:80", "host:80 "),
    ],
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ConfigError, match=r"--coordinator=.* must be HOST:PORT of process 0"):
        meeting.parse_address(given)

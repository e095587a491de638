"""The meeting of a run's processes before JAX joins them, so that each learns at once why a run cannot begin.

JAX's own service aborts a process whose others do not come, and takes no notice of what the others were started
with. So process 0 first listens at the coordinator's port itself. Every other process says there who it is, and waits
for the answer: that all have come, or the sentence with which all of them end.
"""

import contextlib
import errno
import ipaddress
import json
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from haepo_jax.errors import ConfigError, Stalled
from haepo_jax.text import visible

_GREETING = "haepo_jax meeting"
_LONGEST = 4096  # bytes of a message
_RETRY_SECONDS = 0.1
_HINT = "See what they report, and start all with the same flags but --process_id."
_BAD_INPUT = 2  # the exit code of a refusal
_LEAVE_SECONDS = 0.5
_PATIENCE_SECONDS = 2.0  # for one answer of a computer that may not be one of ours
_WORD_AFTER_SECONDS = 5.0
_REPORT_SECONDS = 3.0


class Address(NamedTuple):
    """Of process 0."""

    host: str
    port: int


class NotMet(ConfigError):
    """The processes do not fit together, which those that came have learnt."""


class Company:
    """The processes that have met, while they begin together: whoever cannot continue, or is gone, ends them all.

    JAX is then in calls that wait for the others, and which it aborts or never returns from where one does not come.
    """

    def __init__(
        self, process_id: int, others: Mapping[int, socket.socket], end: Callable[[str, int], object]
    ) -> None:
        """Watches the others from a thread of its own.

        Args:
          process_id: which of them this is.
          others: the connections, in process 0 to each other one, in the others to process 0.
          end: ends this process with a sentence and an exit code.
        """
        self._process_id, self._others, self._end = process_id, others, end
        self._parted = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def part(self) -> None:
        """Ends the watch, in this process; what befalls it later is no affair of the others here."""
        self._parted.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._tell({"done": True})
        self._close()

    def refuse(self, reason: str) -> None:
        """Ends all others with this reason; this process is to end at once."""
        self._parted.set()
        self._thread.join()
        self._tell({"refusal": f"Process {self._process_id} cannot take part: {_cut(reason)}", "late": False})
        self._let_others_end()
        self._close()

    def _let_others_end(self) -> None:
        """The end of process 0, where JAX's service is, is a fatal error of the others, to JAX."""
        if self._process_id == 0:
            time.sleep(_LEAVE_SECONDS)

    def _close(self) -> None:
        for connection in self._others.values():
            connection.close()

    def _tell(self, message: dict[str, Any]) -> None:
        for connection in self._others.values():
            with contextlib.suppress(OSError):  # it has left
                _send(connection, {"greeting": _GREETING} | message)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as watched:
            for process, connection in self._others.items():
                watched.register(connection, selectors.EVENT_READ, process)
            while watched.get_map() and not self._parted.is_set():
                for key, _ in watched.select(_RETRY_SECONDS):
                    watched.unregister(key.fileobj)
                    message = _read(self._others[key.data], _PATIENCE_SECONDS)
                    if self._parted.is_set():
                        return
                    if message is None:
                        self._end_all(f"Process {key.data} ended while the run began. {_HINT}", late=True)
                    elif "refusal" in message:
                        self._end_all(message["refusal"], message["late"])

    def _end_all(self, sentence: str, late: bool) -> None:
        self._tell({"refusal": sentence, "late": late})
        self._let_others_end()
        self._end(visible(sentence), Stalled.EXIT_CODE if late else _BAD_INPUT)


class _Guest(NamedTuple):
    """A process that has come."""

    connection: socket.socket
    message: Mapping[str, Any]


def parse_address(coordinator: str) -> Address:
    """Reads `HOST:PORT`, where an IPv6 address stands in square brackets.

    Raises:
      ConfigError: it is something else.
    """
    match = re.fullmatch(r"(?P<host>\[[^\]\s]+\]|[^\s:/\[\]@]+):(?P<port>[0-9]{1,5})", coordinator, re.ASCII)
    if match is None or not 1 <= int(match["port"]) <= 65535 or not _is_host(match["host"]):
        raise ConfigError(
            f"--coordinator={coordinator!r} must be HOST:PORT of process 0, such as 10.0.0.5:8476, with a port from "
            "1 to 65535; an IPv6 address stands in square brackets."
        )
    return Address(match["host"].strip("[]"), int(match["port"]))


def meet(
    address: Address, num_processes: int, process_id: int, seconds: float, end: Callable[[str, int], object]
) -> Company | None:
    """Returns once all processes of the run are here; all must call it.

    Args:
      address: of process 0, which listens at its port.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      seconds: how long to wait for the others.
      end: see `Company`.

    Returns:
      All of them, to be parted once they have begun; None for one process alone.

    Raises:
      NotMet: they do not fit together.
      Stalled: they do not come in time.
      ConfigError: process 0 cannot listen at the port.
    """
    if num_processes == 1:
        return None
    until = time.monotonic() + seconds
    message = {"greeting": _GREETING, "process_id": process_id, "num_processes": num_processes}
    if process_id == 0:
        return Company(0, _receive_all(address, num_processes, seconds, until), end)
    answer, connection = _ask(address, message, until)
    if answer is None or connection is None:
        raise Stalled(
            f"Process 0 could not be reached at --coordinator={address.host}:{address.port} within {seconds:g} s "
            f"(--join_seconds). {_HINT}"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        _obey(answer["refusal"], answer["late"])
        stack.pop_all()  # it stays open
    return Company(process_id, {0: connection}, end)


def report_refusal(address: Address, process_id: int | None, reason: str) -> None:
    """Lets the others know that this process cannot take part and why, as far as they come within a few seconds.

    Args:
      address: of process 0.
      process_id: which of them this is, from 0; None where that is not known.
      reason: a sentence.
    """
    end = time.monotonic() + _REPORT_SECONDS
    who = "A process" if process_id is None else f"Process {process_id}"
    refusal = f"{who} cannot take part: {_cut(reason)}"
    if process_id != 0:
        _, connection = _ask(address, {"greeting": _GREETING, "refusal": refusal}, end)
        if connection is not None:
            connection.close()
        return
    with contextlib.suppress(ConfigError), _listening(address) as server:
        while (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError):
                guest = _greeted(server.accept()[0])
                if guest is not None:
                    with guest.connection:
                        _answer(guest, refusal, late=False)


def _receive_all(address: Address, num_processes: int, seconds: float, end: float) -> dict[int, socket.socket]:
    """Lets the others come to process 0, and answers them all; returns their connections."""
    guests: dict[int, _Guest] = {}
    to_answer: list[_Guest] = []
    with _listening(address) as server, contextlib.ExitStack() as kept:
        refusal, late, announced = None, False, False
        while refusal is None and not _are_all_there(guests, num_processes - 1):
            missing = sorted(set(range(1, num_processes)) - guests.keys())
            left = end - time.monotonic()
            if left <= 0:
                late = True
                refusal = (
                    f"{_named(missing)} of {num_processes} did not join at port {address.port} of process 0 within "
                    f"{seconds:g} s (--join_seconds). {_HINT}"
                )
                break
            if not announced and time.monotonic() > end - seconds + _WORD_AFTER_SECONDS:
                announced = True
                print(f"Waiting for {_named(missing).lower()} of {num_processes}.", flush=True)
            server.settimeout(min(left, 1.0))
            with contextlib.suppress(OSError):  # none has come, or one has left again
                guest = _greeted(server.accept()[0])
                if guest is None:
                    continue
                kept.enter_context(guest.connection)
                to_answer.append(guest)
                refusal = _objection(guest.message, num_processes, guests)
                if refusal is None:
                    number = guest.message["process_id"]
                    if number in guests:  # it was started again
                        guests[number].connection.close()
                    guests[number] = guest
        for guest in to_answer:
            _answer(guest, refusal, late)
        _obey(refusal, late)
        kept.pop_all()  # these stay open
    return {number: guest.connection for number, guest in guests.items()}


def _are_all_there(guests: dict[int, _Guest], number: int) -> bool:
    """Returns whether so many have come; those that have left before the last one came are taken out."""
    if len(guests) == number:
        for left in [process for process, guest in guests.items() if _has_left(guest.connection)]:
            guests.pop(left).connection.close()
    return len(guests) == number


def _greeted(connection: socket.socket) -> _Guest | None:
    """The process that has come by a connection; None where it is something else."""
    message = _read(connection, _PATIENCE_SECONDS)
    known = message is not None and (
        isinstance(message.get("refusal"), str)
        or all(type(message.get(key)) is int for key in ("process_id", "num_processes"))
    )
    if message is None or not known:
        connection.close()
        return None
    return _Guest(connection, message)


def _answer(guest: _Guest, refusal: str | None, late: bool) -> None:
    with contextlib.suppress(OSError):  # it has left
        _send(guest.connection, {"greeting": _GREETING, "refusal": refusal, "late": late})


def _obey(refusal: str | None, late: bool) -> None:
    """Ends where all end; to start again helps where some came too late alone."""
    if refusal is not None:
        raise Stalled(visible(refusal)) if late else NotMet(visible(refusal))


def _objection(message: Mapping[str, Any], num_processes: int, guests: Mapping[int, _Guest]) -> str | None:
    """Says why a process that has come cannot take part."""
    if "refusal" in message:
        return message["refusal"]
    number, count = message["process_id"], message["num_processes"]
    if count != num_processes:
        return (
            f"Process {number} was started with --num_processes={count}, process 0 with "
            f"--num_processes={num_processes}; start all with the same number."
        )
    if number in guests and not _has_left(guests[number].connection):
        return f"Two processes were started with --process_id={number}; give each a number of its own, from 0."
    return None


def _ask(
    address: Address, message: Mapping[str, Any], end: float
) -> tuple[dict[str, Any], socket.socket] | tuple[None, None]:
    """Comes to process 0 and waits for its answer; None where there is none in time."""
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(address, min(left, _PATIENCE_SECONDS)))
            if connection.getsockname() == connection.getpeername():
                continue  # nobody listens, and the system has chosen this port for this very connection
            _send(connection, message)
            answer = _read(connection, left)
            if answer is not None and {"refusal", "late"} <= answer.keys():
                stack.pop_all()  # it stays open
                return answer, connection
        time.sleep(_RETRY_SECONDS)  # it is not there yet
    return None, None


@contextlib.contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """Listens where JAX's service will: at the port of the coordinator, on all addresses of this host."""
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    port = parse_address(bind).port if bind else address.port
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    end = time.monotonic() + _PATIENCE_SECONDS
    server: socket.socket | None = None
    while server is None:
        try:
            server = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:  # a run before may be about to end
                reason = os.strerror(error.errno or 0)
                raise ConfigError(
                    f"Process 0 cannot listen at port {port} of this host ({reason}); give --coordinator a free port."
                ) from error
            time.sleep(_RETRY_SECONDS)
    with server:
        yield server


def _cut(reason: str) -> str:
    """As much of a sentence as a message holds, on one line."""
    return " ".join(reason.split())[: _LONGEST // 8]


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.settimeout(_PATIENCE_SECONDS)
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket, seconds: float) -> dict[str, Any] | None:
    """A message of a process of ours; None where it is something else, or nothing comes."""
    end, received = time.monotonic() + seconds, b""
    try:
        while not received.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or len(received) > _LONGEST:
                return None
            connection.settimeout(left)
            piece = connection.recv(1)  # not of the message after it
            if not piece:
                return None
            received += piece
        message = json.loads(received)
    except (OSError, ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("greeting") == _GREETING else None


def _has_left(connection: socket.socket) -> bool:
    """Returns whether the process at the other end has closed it, as one that was ended and started again has."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return True
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0]).version == 6
    except ValueError:
        return False


def _named(numbers: list[int]) -> str:
    """`Process 1`, or `Processes 1, 3`."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"{'Process' if len(numbers) == 1 else 'Processes'} {shown}"

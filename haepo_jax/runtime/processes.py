"""The processes of a run: how they find one another, and what they agree on. JAX's own engine does the talking.

In a run of one process everything here returns at once.
"""

import atexit
import collections
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.extend.backend import clear_backends

from haepo_jax.errors import ConfigError, Stalled, StorageError
from haepo_jax.runtime import meeting

HEARTBEAT_SECONDS = 30
JOIN_SECONDS = 60.0

_LEAVE_SECONDS = 10.0
_STOP_SECONDS = 60.0  # after a signal all of them save, which one may do faster than another

_met: list[meeting.Company] = []
"""The processes of this run while they begin together; none before and after."""

_TOO_LATE = "before any JAX"  # is part of what JAX says once its devices are started

# What JAX's coordination service and its collectives say of a process that is gone.
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "Barrier", "onnection", "Gloo", "gloo")


def initialize(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
    join_seconds: float = JOIN_SECONDS,
) -> None:
    """Joins the other processes of the run: those of the arguments, or of a cluster that JAX knows.

    Args:
      coordinator: `HOST:PORT` of process 0; None on a TPU pod, under SLURM, Open MPI or Kubernetes, where JAX finds
        out for itself, and in a run of one process.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      heartbeat_seconds: how long a process may be silent before the others give up.
      join_seconds: how long to wait for the others.

    Raises:
      ConfigError: only some of the three are given, they do not fit together, the others do not come in time, or
        they have other numbers of devices.
    """
    given = _checked(coordinator, num_processes, process_id)
    if given is not None:
        _begin(meeting.meet(*given, join_seconds, _end))
    # It would take SIGTERM away from the run, which saves and stops by itself.
    jax.config.update("jax_enable_preemption_service", False)

    def join() -> None:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
            initialization_timeout=max(1, round(join_seconds)),
        )

    try:
        try:
            join()
        except RuntimeError as error:
            # A config file may have computed with JAX. CPUs can be started again; a GPU's memory would stay taken.
            if _TOO_LATE not in str(error) or jax.default_backend() != "cpu":
                raise
            clear_backends()
            join()
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if given is not None:
            if _TOO_LATE in reason:
                reason = "JAX has computed already, perhaps in the config file, where NumPy has to do"
            raise ConfigError(f"The processes of the run could not be joined: {reason}.") from error
        # Without flags JAX has found no cluster, or need not look for one: a run of one process.
        if not isinstance(error, ValueError) and _TOO_LATE not in reason:
            raise ConfigError(
                f"The other processes of the cluster that this one runs on could not be joined ({reason}); "
                "--coordinator, --num_processes and --process_id say where they are."
            ) from error
    _check_devices()


def part() -> None:
    """Ends the meeting once all have begun, or learnt why they cannot: from here on none is watched but by JAX."""
    while _met:
        _met.pop().part()


def report_refusal(arguments: Sequence[str], reason: Exception) -> bool:
    """Lets the others of a run know why this process does not begin it.

    Args:
      arguments: of the command, some of which may be what is wrong.
      reason: what ended it.

    Returns:
      Whether others were about to begin with this one: it has to end at once then.
    """
    if _met:
        _met.pop().refuse(str(reason))
        return True
    if isinstance(reason, meeting.NotMet) or joined():
        return False
    found: dict[str, str] = {}
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        match = re.fullmatch(r"--?(coordinator|process_id)(?:=(.*))?", argument)
        if match is not None:
            found[match[1]] = after if match[2] is None else match[2]
    try:
        address = meeting.parse_address(found.get("coordinator", ""))
    except ConfigError:  # it is what is wrong, or this is the only process
        return False
    number = found.get("process_id", "")
    meeting.report_refusal(address, int(number) if number.isdecimal() else None, str(reason))
    return False


def _begin(company: meeting.Company | None) -> None:
    if company is not None:
        _met.append(company)
        atexit.register(part)


def _end(sentence: str, code: int) -> None:
    """Ends this process, whose main thread may wait for others."""
    with contextlib.suppress(OSError):
        os.write(2, f"{Path(sys.argv[0]).stem}: {sentence}\n".encode(errors="replace"))
    os._exit(code)


def _checked(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[meeting.Address, int, int] | None:
    """The flags, if all are given; None if none is."""
    flags = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in flags.items() if value is None]
    if len(missing) == len(flags):
        return None
    if coordinator is None or num_processes is None or process_id is None:
        raise ConfigError(
            f"--coordinator, --num_processes and --process_id go together; missing: {', '.join(missing)}."
        )
    address = meeting.parse_address(coordinator)
    if num_processes < 1:
        raise ConfigError(f"--num_processes={num_processes} must be 1 or more.")
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id} must be below --num_processes={num_processes}; it counts from 0."
        )
    return address, num_processes, process_id


def _check_devices() -> None:
    """Refuses processes with unequal numbers of devices, over which JAX's collectives do not work."""
    if jax.process_count() == 1:
        return
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len({counts[process] for process in range(jax.process_count())}) > 1:
        part()
        counted = ", ".join(f"process {process} has {counts[process]}" for process in range(jax.process_count()))
        raise ConfigError(
            f"All processes of a run must have as many devices as each other: {counted}. On CPUs "
            "JAX_NUM_CPU_DEVICES says how many, otherwise each core is one."
        )


def gathered(values: np.ndarray) -> np.ndarray:
    """Everyone's values, `[processes, ...]`; all must call it."""
    if jax.process_count() == 1:
        return values[None]
    with company():
        return np.asarray(multihost_utils.process_allgather(values))


def from_first(values: np.ndarray) -> np.ndarray:
    """Gives all processes the values of process 0; all must call it."""
    if jax.process_count() == 1:
        return values
    with company():
        return np.asarray(multihost_utils.broadcast_one_to_all(values))


def texts(own: str) -> list[str]:
    """Everyone's text; all must call it."""
    content = np.frombuffer(own.encode(errors="replace"), np.uint8)
    lengths = gathered(np.array(len(content), np.int32))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(content)] = content
    rows = gathered(padded)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Refuses on all processes what one of them refuses; all must enter it, and nothing in it may wait for others.

    Raises:
      ConfigError: another process refuses.
    """
    refusal: Exception | None = None
    try:
        yield
    except (ConfigError, StorageError) as error:
        refusal = error
    if jax.process_count() > 1:
        refusals = texts("" if refusal is None else str(refusal) or type(refusal).__name__)
        others = [(process, text) for process, text in enumerate(refusals) if text]
        if refusal is None and others:
            process, text = others[0]
            raise ConfigError(f"Process {process} cannot take part: {text}")
    if refusal is not None:
        raise refusal


def leave(code: int) -> None:
    """Ends this process with this code: together with the others if they end too, and at once otherwise."""
    if not _met:  # else the others end when they see this one gone
        farewell = threading.Thread(target=_shut_down, daemon=True)
        farewell.start()
        farewell.join(_STOP_SECONDS if code in (128 + signal.SIGINT, 128 + signal.SIGTERM) else _LEAVE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _shut_down() -> None:
    with contextlib.suppress(Exception):  # another one has ended already
        jax.distributed.shutdown()


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        with company():
            multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def company() -> Iterator[None]:
    """Turns the errors of a process that has lost another one into `Stalled`, whoever passes them on."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not _tells_of_a_loss(cause):
            cause = cause.__cause__ or cause.__context__
        if cause is None or jax.process_count() == 1:
            raise
        raise Stalled.alone(" ".join(str(cause).split())[:200]) from error


def _tells_of_a_loss(error: BaseException) -> bool:
    """Collectives of CPUs fail with a ValueError, all others with JAX's own."""
    signs = _LOST if isinstance(error, jax.errors.JaxRuntimeError) else ("Gloo",)
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and any(sign in str(error) for sign in signs)


def joined() -> bool:
    """Returns whether this process has joined others."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Returns whether this is process 0, which writes what is written once."""
    return jax.process_index() == 0

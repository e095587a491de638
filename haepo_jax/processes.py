"""The processes of a run: how they find one another, and what they agree on. JAX's own engine does the talking.

In a run of one process everything here returns at once.
"""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from haepo_jax.errors import ConfigError, Stalled

HEARTBEAT_SECONDS = 30

# What JAX's coordination service and its collectives say of a process that is gone.
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "Barrier", "onnection", "Gloo", "gloo")


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, heartbeat_seconds: int
) -> None:
    """Joins the other processes of the run: those of the arguments, or of a cluster that JAX knows.

    Args:
      coordinator: `HOST:PORT` of process 0; None on a TPU pod, under SLURM, Open MPI or Kubernetes, where JAX finds
        out for itself, and in a run of one process.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      heartbeat_seconds: how long a process may be silent before the others give up.

    Raises:
      ConfigError: only some of the three are given, they do not fit together, or the others cannot be reached.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise ConfigError(
            f"--coordinator, --num_processes and --process_id go together; missing: {', '.join(missing)}."
        )
    if num_processes is not None and process_id is not None and process_id >= num_processes:
        raise ConfigError(
            f"--process_id={process_id} must be below --num_processes={num_processes}; it counts from 0."
        )
    # It would take SIGTERM away from the run, which saves and stops by itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=heartbeat_seconds)
    except ValueError as error:
        if not missing:  # otherwise JAX has found no cluster: a run of one process
            raise ConfigError(f"The processes of the run could not be joined: {error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"The processes of the run could not be joined: {reason}") from error


def gathered(values: np.ndarray) -> np.ndarray:
    """Everyone's values, `[processes, ...]`; all must call it."""
    if jax.process_count() == 1:
        return values[None]
    with company():
        return np.asarray(multihost_utils.process_allgather(values))


def from_first(values: np.ndarray) -> np.ndarray:
    """The values of process 0; all must call it."""
    if jax.process_count() == 1:
        return values
    with company():
        return np.asarray(multihost_utils.broadcast_one_to_all(values))


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
    """Whether this process has joined others."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this is process 0, which writes what is written once."""
    return jax.process_index() == 0

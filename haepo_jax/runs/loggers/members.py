"""Makes the loggers of the chosen members, and passes on the rows of their updates."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from haepo_jax.components import check_name, is_outside, load, reason_of, show_name
from haepo_jax.config.members import Member
from haepo_jax.errors import CODE_FAILURES, ConfigError
from haepo_jax.runs.files import read_record
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.loggers.interface import LoggedRun, Logger


class _BuiltIn(NamedTuple):
    package: str
    extra: str
    logger: str
    """The class, in the module of this package with the logger's name."""


BUILT_IN: Mapping[str, _BuiltIn] = {
    "tensorboard": _BuiltIn("tensorboardX", "tensorboard", "TensorBoardLogger"),
    "wandb": _BuiltIn("wandb", "wandb", "WandbLogger"),
    "mlflow": _BuiltIn("mlflow", "mlflow", "MlflowLogger"),
}
"""The loggers with a name of their own, and what each needs."""

MakeLogger = Callable[[LoggedRun], Logger]


class Request(NamedTuple):
    """Which loggers are asked for, and for which members."""

    makers: Mapping[str, MakeLogger]
    """What makes a logger, by the name of its folder."""
    members: Collection[int]


def make_request(loggers: Sequence[str | MakeLogger], members: Collection[int], num_members: int) -> Request:
    """Loads loggers, and checks that there are such members.

    Args:
      loggers: names of `BUILT_IN`, `package.module:attribute`, or what makes a logger of a `LoggedRun`.
      members: the numbers of those members whose metrics are logged.
      num_members: how many the run has.

    Raises:
      ConfigError: a logger that does not exist, one whose library is not installed or cannot be imported, two of one
        name, or a member that does not exist.
    """
    makers: dict[str, MakeLogger] = {}
    for logger in loggers:
        name = show_name(logger).replace(":", ".")
        if name in makers:
            raise ConfigError(f"--loggers names {show_name(logger)} twice; give it once.")
        makers[name] = _load(logger)
    for index in members if makers else ():
        if not 0 <= index < num_members:
            raise ConfigError(f"--logged_members={index} is no member; there are members 0 to {num_members - 1}.")
    return Request(makers, members)


def _load(logger: str | MakeLogger) -> MakeLogger:
    if isinstance(logger, str) and not is_outside(check_name("--loggers", logger, tuple(BUILT_IN))):
        package, extra, name = BUILT_IN[logger]
        found, install = importlib.util.find_spec(package), f"pip install 'haepo_jax[{extra}]'"
        if found is None or found.origin is None:  # a folder of that name, as wandb makes one, is no package
            raise ConfigError(f"--loggers={logger} needs {package}: {install}.")
        try:
            return getattr(importlib.import_module(f"haepo_jax.runs.loggers.{logger}"), name)
        except CODE_FAILURES as error:
            raise ConfigError(
                f"--loggers={logger} needs {package}, which cannot be imported ({reason_of(error)}): {install} "
                "installs a version that can."
            ) from error
    return load("--loggers", logger)


def open_loggers(request: Request, workdir: Path, members: Sequence[Member], *, first_update: int) -> "MemberLoggers":
    """Makes the loggers of the chosen ones of some members of a run folder, from `first_update` on."""
    if not request.makers or not any(member.index in request.members for member in members):
        return MemberLoggers(request, workdir, (), run_id="", config={}, first_update=first_update)  # reads no file
    run_id = read_run_id(workdir) or workdir.resolve().name  # an old run has none
    config = read_record(workdir)
    return MemberLoggers(request, workdir, members, run_id=run_id, config=config, first_update=first_update)


class MemberLoggers:
    """The loggers of some members. None of them can stop a run: one that fails is reported, and left out."""

    def __init__(
        self,
        request: Request,
        workdir: Path,
        members: Sequence[Member],
        *,
        run_id: str,
        config: Mapping[str, Any],
        first_update: int,
    ) -> None:
        """Makes a logger of every kind for each chosen member.

        Args:
          request: of which kinds, and for which members.
          workdir: the run folder.
          members: those of the rows that follow, in the order of their columns.
          run_id: of the run folder.
          config: what its `config.json` holds.
          first_update: the first update that is going to be written.
        """
        self._loggers: dict[tuple[str, int], tuple[int, Logger]] = {}
        group = workdir.resolve().name  # that of "." is empty
        for column, member in enumerate(members):
            if member.index not in request.members:
                continue
            folder = f"member-{member.index:05d}"
            for kind, make in request.makers.items():
                run = LoggedRun(
                    id=f"{run_id}-{member.index}",
                    name=f"{group}/{folder}",
                    group=group,
                    folder=workdir / kind / folder,
                    member=member.index,
                    seed=member.seed,
                    settings=member.settings,
                    config=config,
                    first_update=first_update,
                )
                try:
                    self._loggers[kind, member.index] = column, make(run)
                except CODE_FAILURES as error:
                    _report(kind, member.index, error)

    def write(self, first_update: int, metrics: Mapping[str, np.ndarray], where: np.ndarray) -> None:
        """Passes updates on.

        Args:
          first_update: the update of the first row.
          metrics: `[updates, members]` by name.
          where: `[updates, members]` boolean, the rows to write.
        """
        for (kind, member), (column, logger) in list(self._loggers.items()):
            try:
                for row in np.flatnonzero(where[:, column]):
                    numbers = {name: float(values[row, column]) for name, values in metrics.items()}
                    present = {name: number for name, number in numbers.items() if not np.isnan(number)}
                    logger.write(first_update + int(row), present)
            except CODE_FAILURES as error:
                _report(kind, member, error)
                del self._loggers[kind, member]
                with contextlib.suppress(*CODE_FAILURES):  # what it was given before may still be unwritten
                    logger.close()

    def close(self) -> None:
        """Ends the loggers."""
        for (kind, member), (_, logger) in self._loggers.items():
            try:
                logger.close()
            except CODE_FAILURES as error:
                _report(kind, member, error)
        self._loggers.clear()


def _report(kind: str, member: int, error: BaseException) -> None:
    print(
        f"The logger {kind} of member {member} fails ({reason_of(error)}); the run continues without it.",
        file=sys.stderr,
        flush=True,
    )

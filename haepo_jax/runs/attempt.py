"""One attempt at a run: the provenance, the watchdog, the programs and the clocks that its groups and waves share."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.stages import Compiled

from haepo_jax.config.members import Member, text_settings
from haepo_jax.errors import Interrupted
from haepo_jax.population.population import Population
from haepo_jax.runs.component_files import Described
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.loggers import MemberLoggers, Request, open_loggers
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.progress import report_waiting
from haepo_jax.runs.provenance import Provenance
from haepo_jax.runtime import compilation_cache, processes
from haepo_jax.runtime.watchdog import Watchdog


class _Program(NamedTuple):
    """What advances a population."""

    compiled: Compiled
    seconds: float
    """That tracing and compiling it took."""


def _compile(population: Population) -> _Program:
    clock = time.monotonic()
    compiled = population.compiled()
    return _Program(compiled, time.monotonic() - clock)


class Attempt:
    """One attempt at a run. All processes make it together."""

    def __init__(
        self,
        workdir: Path,
        members: Sequence[Member],
        populations: Sequence[Population],
        components: Described,
        *,
        checkpoint_seconds: float,
        stall_seconds: float,
        loggers: Request,
        keep_checkpoints_every: int | None,
    ) -> None:
        """Adds the attempt to the provenance of the run.

        Args:
          workdir: the run folder, held by this run.
          members: all of the run.
          populations: of its groups.
          components: those from outside that it is made with.
          checkpoint_seconds: see `run_sweep`, as the others.
          stall_seconds: see there.
          loggers: those that show the metrics of some members elsewhere.
          keep_checkpoints_every: see there.
        """
        self.workdir = workdir
        self.checkpoint_seconds = checkpoint_seconds
        self.loggers = loggers
        self.keep_checkpoints_every = keep_checkpoints_every
        with processes.all_or_none():
            self.provenance = Provenance(workdir, jax.local_devices(), jax.process_index(), components)
        self.watchdog = Watchdog(stall_seconds)
        self.received: list[int] = []
        self.run_seconds = self.compile_seconds = self.saving_seconds = 0.0
        self.timeline: list[tuple[int, float]] = []  # updates done of the wave, seconds of the attempt
        self._text = text_settings(members)
        self._compiler = ThreadPoolExecutor(1)
        self._programs: dict[Any, Future[_Program]] = {}
        self._noted: Any = None
        self._metrics = {
            name: leaf.dtype for population in populations for name, leaf in population.metrics_shapes().items()
        }

    def stop(self, number: int, done: int, total: int) -> Interrupted:
        """Notes that a signal has ended the attempt early, and returns what is to be raised."""
        return self.provenance.stop(number, done, total, **self._clocks())

    def make_writer(self, population: Population) -> MetricsWriter:
        """Makes the writer of the rows of those members that are on this process."""
        return MetricsWriter(
            self.workdir / "metrics",
            population.members_here,
            metrics=self._metrics,
            text=self._text,
            process=jax.process_index(),
            run=read_run_id(self.workdir),
        )

    def make_loggers(self, population: Population, *, first_update: int) -> MemberLoggers:
        """Makes the loggers of those chosen members that are on this process."""
        return open_loggers(self.loggers, self.workdir, population.members_here, first_update=first_update)

    def begin_compiling(self, population: Population) -> None:
        """Begins to compile the program of a group, which its waves share, beside what else there is to do."""
        if population.advance not in self._programs:
            # That of the group before is dropped.
            self._programs = {population.advance: self._compiler.submit(_compile, population)}

    def compile(self, population: Population) -> Compiled:
        """Returns the program of a group, once it is compiled."""
        self.begin_compiling(population)
        compiling = self._programs[population.advance]
        with report_waiting("Compiling", "Compiled", shown=processes.is_first() and not compiling.done()):
            program = compiling.result()
        if population.advance is not self._noted:
            self._noted = population.advance
            self.compile_seconds += program.seconds
            compilation_cache.seal()
            self.note()
            processes.barrier("every process has compiled")  # which may take longer on some, and is no standstill
        return program.compiled

    def note(self, **entries: Any) -> None:
        """Writes into provenance how long things took, and other entries of the attempt."""
        self.provenance.update(**self._clocks(), **entries)

    def _clocks(self) -> dict[str, Any]:
        return {
            "compile_seconds": self.compile_seconds,
            "run_seconds": self.run_seconds,
            "saving_seconds": self.saving_seconds,
            "timeline": self.timeline,
        }

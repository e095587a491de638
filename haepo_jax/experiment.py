"""One run from its config to its complete folder: chunks of updates, with metrics and checkpoints between them.

The device never waits for a file: while it works on a chunk, the host writes what the chunk before it gave.
"""

import dataclasses
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax import signals
from haepo_jax.analysis.summary import summarize
from haepo_jax.checkpointing import Checkpoint, Checkpointer
from haepo_jax.config import ExperimentConfig, to_json
from haepo_jax.errors import ConfigError, Interrupted
from haepo_jax.objectives import Metrics
from haepo_jax.population import Population, make_members, make_population
from haepo_jax.recording import MetricsWriter, ProgressReport
from haepo_jax.resuming import starting_point
from haepo_jax.run_folder import Provenance, is_complete, load_config, opened, storage_errors, write_json
from haepo_jax.training import MemberState, make_environment

_CHUNK_SECONDS = 2.0  # aimed at; a chunk is at least one update
_MAX_GROWTH = 8  # from one chunk to the next, as the first is short and its time uncertain


class _Chunk(NamedTuple):
    """Updates that have been computed and not yet been written."""

    metrics: dict[str, np.ndarray]
    env_steps: np.ndarray
    """`[updates, members]`, cumulative."""


def run(config: ExperimentConfig, workdir: Path, *, checkpoint_seconds: float = 10.0) -> bool:
    """Runs an experiment, or goes on with it, until its folder is complete.

    Args:
      config: the experiment.
      workdir: the run folder.
      checkpoint_seconds: least time between two checkpoints; metrics are written with each.

    Returns:
      False if the folder was complete already and nothing was done.

    Raises:
      ConfigError: a folder that cannot be used, or an environment that does not exist.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT.
    """
    make_environment(config)  # before the folder is made, as its name may be wrong
    members = [dataclasses.asdict(member) for member in make_members(config)]
    with opened(workdir, to_json(config), members):
        if is_complete(workdir):
            return False
        _Run(config, workdir, make_population(config)).go(checkpoint_seconds)
    return True


def restore(workdir: Path) -> tuple[ExperimentConfig, Population, MemberState]:
    """The newest good state of a run, on the devices; changes nothing in the folder.

    Raises:
      ConfigError: the folder holds no run, or no good checkpoint.
    """
    config = load_config(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"--workdir {workdir} holds no checkpoint yet; train first.")
    population = make_population(config)
    checkpointer = Checkpointer(workdir / "checkpoints", read_only=True)
    found, damaged = checkpointer.restore(_fresh(population))
    checkpointer.close()
    for update, reason in damaged:
        print(f"The checkpoint after update {update} is damaged ({reason}); it is passed over.")
    if found is None:
        raise ConfigError(f"--workdir {workdir} holds no good checkpoint; train first.")
    return config, population, population.from_host(found.state)


def _fresh(population: Population) -> Checkpoint:
    return Checkpoint(population.to_host(population.init()), np.zeros(len(population.members), np.int64))


class _Run:
    """The state of one attempt at a run, while it goes on."""

    def __init__(self, config: ExperimentConfig, workdir: Path, population: Population) -> None:
        self._total = config.num_updates
        self._workdir = workdir
        self._population = population
        self._provenance = Provenance(workdir, list(population.mesh.devices.flat))
        self._pending: list[_Chunk] = []
        self._run_seconds = 0.0
        self._timeline: list[tuple[int, float]] = []  # updates done, seconds
        with storage_errors(workdir):
            self._writer = MetricsWriter(workdir / "metrics", population.members)
            self._checkpointer = Checkpointer(workdir / "checkpoints")
        self._saved = self._start()
        self._first_steps = self._saved.env_steps.sum()
        self._progress = ProgressReport(self._total, self._updates_saved)

    @property
    def _updates_saved(self) -> int:
        return int(self._saved.state.updates_done[0])

    def _finished(self, state: MemberState) -> bool:
        """True once every update is done, or every member has stopped."""
        return int(state.updates_done[0]) >= self._total or not np.any(self._population.train.runs(state))

    def go(self, checkpoint_seconds: float) -> None:
        """Trains from where the folder stands, and completes the folder."""
        try:
            with signals.collected() as received:
                if not self._finished(self._saved.state):
                    self._train(checkpoint_seconds, received)
                if received and not self._finished(self._saved.state):
                    self._provenance.update(outcome=signal.Signals(received[0]).name)
                    raise Interrupted(received[0], self._updates_saved, self._total)
        finally:
            self._progress.close()
            self._checkpointer.close()
        self._provenance.update(outcome="complete")
        with storage_errors(self._workdir):
            summary = summarize(
                self._workdir,
                death_updates=np.asarray(self._saved.state.death_update),
                compile_seconds=self._provenance.total("compile_seconds"),
                run_seconds=self._provenance.total("run_seconds"),
            )
            write_json(self._workdir / "summary.json", summary)

    def _start(self) -> Checkpoint:
        fresh = _fresh(self._population)
        with storage_errors(self._workdir):
            return starting_point(fresh, self._checkpointer, self._writer, self._provenance, self._total)

    def _train(self, checkpoint_seconds: float, received: list[int]) -> None:
        """Chunk after chunk until the last update or a signal. Host work on a chunk overlaps with the next one."""
        state = self._population.from_host(self._saved.state)
        done, size = self._updates_saved, 1
        clock = last_save = time.monotonic()
        advance = self._population.advance.lower(state, jnp.int32(1)).compile()
        self._provenance.update(compile_seconds=time.monotonic() - clock)
        members = len(self._population.members)  # padding, which may never run, lies behind them
        still_run = jax.jit(lambda state: jnp.any(self._population.train.runs(state)[:members]))
        chunk: tuple[int, Metrics] | None = None
        snapshot: MemberState | None = None
        while done < self._total and not received and still_run(state):
            size = min(size, self._population.max_chunk, self._total - done)
            clock = time.monotonic()
            state, metrics = advance(state, jnp.int32(size))
            if chunk is not None:
                self._fetch(*chunk)
            if snapshot is not None:
                self._save(snapshot)
            jax.block_until_ready(state)
            seconds = time.monotonic() - clock
            self._run_seconds += seconds
            done, chunk, snapshot = done + size, (size, metrics), None
            self._timeline.append((done, self._run_seconds))
            if time.monotonic() - last_save >= checkpoint_seconds:
                snapshot, last_save = self._population.to_host(state), time.monotonic()
            size = min(size * _MAX_GROWTH, max(1, int(_CHUNK_SECONDS / seconds * size)))
        if chunk is not None:
            self._fetch(*chunk)
            self._save(self._population.to_host(state))

    @property
    def _updates_fetched(self) -> int:
        return self._updates_saved + sum(len(chunk.env_steps) for chunk in self._pending)

    def _fetch(self, size: int, metrics: Metrics) -> None:
        """Takes a chunk's metrics from the device and reports them."""
        members = len(self._population.members)
        rows = {name: np.asarray(values)[:size, :members] for name, values in metrics.items()}
        # Once every member has stopped, the rest of the chunk is empty: no two ways to cut a run into chunks differ.
        ran = np.flatnonzero(rows["env_steps"].any(axis=1))[-1] + 1
        rows = {name: values[:ran] for name, values in rows.items()}
        before = self._pending[-1].env_steps[-1] if self._pending else self._saved.env_steps
        self._pending.append(_Chunk(rows, before + np.cumsum(rows.pop("env_steps").astype(np.int64), axis=0)))
        newest = rows["episode_return"][-1]
        rate = (self._pending[-1].env_steps[-1].sum() - self._first_steps) / self._run_seconds
        mean_return = float(np.nanmean(newest)) if not np.isnan(newest).all() else float("nan")
        self._progress.show(self._updates_fetched, f"{rate:,.0f} env steps/s  return {mean_return:.4g}")

    def _save(self, state: MemberState) -> None:
        """Writes the pending metrics, then the checkpoint that makes them count."""
        names = self._pending[0].metrics
        metrics = {name: np.concatenate([chunk.metrics[name] for chunk in self._pending]) for name in names}
        env_steps = np.concatenate([chunk.env_steps for chunk in self._pending])
        done: Any = np.full_like(state.updates_done, self._updates_fetched)  # on the host, as all of this state
        state = dataclasses.replace(state, updates_done=done)
        checkpoint = Checkpoint(state, env_steps[-1])
        with storage_errors(self._workdir):
            self._writer.write(self._updates_saved, metrics, env_steps)
            # Before the checkpoint: a run killed just after its last one is summed up from what is written here.
            self._provenance.update(run_seconds=self._run_seconds, timeline=self._timeline)
            self._checkpointer.save(checkpoint)
        self._report_deaths(state)
        self._saved = checkpoint
        self._pending.clear()

    def _report_deaths(self, state: MemberState) -> None:
        for index in np.flatnonzero(self._saved.state.alive & ~state.alive):
            member = self._population.members[index]
            self._progress.say(
                f"Member {index} (seed {member.seed}{_described(member.settings)}) diverged at update "
                f"{state.death_update[index]}: it is frozen as it was before."
            )


def _described(settings: Mapping[str, float]) -> str:
    return "".join(f", {name} {value:g}" for name, value in settings.items())

"""A run from its config to its complete folder: groups of members, in waves, each in chunks of updates.

The devices never wait for a file: while they work on a chunk, the host reports on the chunk before it, and
checkpoints are written in the background. All processes of a run go through the same steps together, and agree after
each chunk on whether and how to go on.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.stages import Compiled

from haepo_jax.algorithms.base import horizon_without_effect
from haepo_jax.config import ExperimentConfig
from haepo_jax.config.checks import check_config, check_seconds
from haepo_jax.config.members import number_of_members, text_settings
from haepo_jax.config.sweep import Group, Sweep, from_record, of_experiment
from haepo_jax.errors import ConfigError, Interrupted, Stalled, quoted
from haepo_jax.population import sizes
from haepo_jax.population.layout import check_placement
from haepo_jax.population.member import MemberState, total_steps
from haepo_jax.population.planning import place_group
from haepo_jax.population.population import Population, make_population
from haepo_jax.runs import agreement
from haepo_jax.runs.checkpoints import Checkpointer
from haepo_jax.runs.files import StrPath, read_placement, read_record, read_summary
from haepo_jax.runs.folder import Provenance, locked, set_aside, storage_errors, write_json
from haepo_jax.runs.identity import begin, check, check_programs, mend_members, note_programs, run_id
from haepo_jax.runs.loggers import Scalars, check_request
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.progress import ProgressReport, updates_within, waiting
from haepo_jax.runs.recorder import Recorder, Rows
from haepo_jax.runs.restore import check_way_back, go_on, look, tidy_metrics, what_is_left
from haepo_jax.runs.summary import summarize, unfinished
from haepo_jax.runs.waves import Wave, waves_of
from haepo_jax.runtime import compilation_cache, paths, processes, signals, startup
from haepo_jax.runtime.watchdog import Watchdog
from haepo_jax.text import format_settings, visible
from haepo_jax.types import Metrics

_CHUNK_SECONDS = 2.0  # aimed at; a chunk is at least one update
_MAX_GROWTH = 8  # from one chunk to the next, as the first is short and its time uncertain
STALL_SECONDS = 300.0


class Placement(NamedTuple):
    """How members lie on devices."""

    members_per_device: int | None = None
    """None: as many as let all members of a group run at once, on the devices of the first attempt."""
    trajectory_devices: int | None = None
    """None: as at the first attempt, and 1 then."""


def run(
    config: ExperimentConfig,
    workdir: StrPath,
    *,
    checkpoint_seconds: float = 10.0,
    stall_seconds: float = STALL_SECONDS,
) -> bool:
    """Runs an experiment, or resumes it, until its folder is complete; see `run_sweep`.

    It uses the devices that JAX has. `haepo_jax.runtime.setup()`, called before JAX computes anything, gives a program
    those of the commands, and so their bits, and their cache of compiled programs.
    """
    check_config(config)
    folder = _checked_folder(workdir)
    sizes.check(config, number_of_members(config), workdir=folder)  # before they are listed
    sweep = of_experiment(config)
    return run_sweep(sweep, workdir, checkpoint_seconds=checkpoint_seconds, stall_seconds=stall_seconds)


def run_sweep(
    sweep: Sweep,
    workdir: StrPath,
    *,
    placement: Placement = Placement(),  # noqa: B008 - immutable
    checkpoint_seconds: float = 60.0,
    stall_seconds: float = STALL_SECONDS,
    tensorboard_members: Collection[int] = (),
) -> bool:
    """Runs a sweep, or goes on with it, until its folder is complete. All processes of a run call it.

    Args:
      sweep: groups of members.
      workdir: the run folder, the same for all processes.
      placement: how members lie on devices.
      checkpoint_seconds: least time between two checkpoints; metrics are written with each. The first chunk of a
        wave and its last one always end with a checkpoint.
      stall_seconds: a process in which nothing has moved for so long ends itself, but never before a chunk of
        updates has taken ten times as long as was to be expected, nor while one process alone does the first update.
      tensorboard_members: indices of the members whose metrics TensorBoard shows too.

    Returns:
      False if the folder was complete already and nothing was done.

    Raises:
      ConfigError: a folder or an argument that cannot be used, or an environment that does not exist.
      StorageError: the folder could not be written to any more.
      Interrupted: SIGTERM or SIGINT, to any of the processes.
      Stalled: another process is gone.
    """
    workdir = _checked_folder(workdir)
    _check_arguments(sweep, placement, checkpoint_seconds, stall_seconds)
    startup.check_flags()
    agreement.check(sweep, placement._asdict() | {"dry_run": False})
    with processes.all_or_none():
        for group in sweep.groups:  # before the folder is made, as they may need what is not there
            sizes.check(group.config, len(group.members), **placement._asdict(), workdir=workdir)
            words = sizes.words_of_long_updates(group.config, len(group.members))
            if words is not None and processes.is_first():
                print(words, flush=True)
        check_request(tensorboard_members, len(sweep.members))
    with agreement.one_folder(workdir), _held(workdir, sweep), signals.leaving(lambda: what_is_left(workdir)):
        if processes.from_first(np.array(processes.is_first() and _is_whole(workdir))):
            return False
        populations = _begun(workdir, sweep, placement)
        _Attempt(sweep, populations, workdir, checkpoint_seconds, stall_seconds, tensorboard_members).go()
    return True


def _checked_folder(workdir: Any) -> Path:
    if not isinstance(workdir, str | os.PathLike):
        raise ConfigError(f"workdir must be a path, got {quoted(workdir)}.")
    return paths.folder("workdir", os.fspath(workdir))


def _check_arguments(sweep: Any, placement: Any, checkpoint_seconds: Any, stall_seconds: Any) -> None:
    """Refuses what a run cannot be made of, before anything is made or printed."""
    if not isinstance(sweep, Sweep):
        raise ConfigError(
            f"sweep must be a Sweep, got {quoted(sweep)}; sweeps.from_values and sweeps.of_experiment make one."
        )
    if not isinstance(placement, Placement):
        raise ConfigError(f"placement must be a Placement, got {quoted(placement)}.")
    check_placement(*placement)
    check_seconds("checkpoint_seconds", checkpoint_seconds, may_be_0=True)
    check_seconds("stall_seconds", stall_seconds, may_be_0=False)


def _is_whole(workdir: Path) -> bool:
    """Whether the folder is complete: a whole summary, and all rows that it sums up."""
    return os.path.lexists(workdir / "summary.json") and _flaw_of_summary(workdir) is None


def _flaw_of_summary(workdir: Path) -> ConfigError | None:
    try:
        read_summary(workdir)
        if missing := unfinished(workdir):
            raise ConfigError(f"{workdir / 'metrics'} has lost the last rows of {len(missing)} members.")
    except ConfigError as error:
        return error
    return None


def restore(workdir: StrPath) -> Iterator[tuple[Population, MemberState, int]]:
    """The newest good state of each wave of a run, on the devices, and its updates; changes nothing in the folder.

    Raises:
      ConfigError: the folder holds no run, or no good checkpoint.
    """
    workdir = Path(workdir)
    sweep = from_record(read_record(workdir))
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"--workdir {workdir} holds no checkpoint yet; train first.")
    placement = read_placement(workdir, [group.name for group in sweep.groups])
    found_any = False
    for group in sweep.groups:
        population = make_population(
            dataclasses.replace(group.config, memory=placement["memory"][group.name]),
            members=group.members,
            members_per_device=placement["members_per_device"][group.name],
        )
        for wave in waves_of(group.members, population.capacity, workdir / "checkpoints"):
            own = population.with_members(wave.members)
            found = look(workdir, wave.sources, own.template(), wave.indices)
            if found is not None:
                found_any = True
                yield own, own.resumed(found.tree), found.update
    if not found_any:
        raise ConfigError(f"--workdir {workdir} holds no good checkpoint; train first.")


@contextlib.contextmanager
def _held(workdir: Path, sweep: Sweep) -> Iterator[None]:
    """Holds the folder for this run, once it is known to hold no other; process 0 does."""
    with contextlib.ExitStack() as stack:
        with processes.all_or_none():
            if processes.is_first():
                stack.enter_context(locked(workdir))
                check(workdir, sweep.record, _described_members(sweep))
                mend_members(workdir, _described_members(sweep))
        yield


def _begun(workdir: Path, sweep: Sweep, placement: Placement) -> list[Population]:
    """The populations of the groups, and a folder in which they can run.

    It is only written once all that can be refused has been looked at.
    """
    with processes.all_or_none():
        populations, noted = _placed(workdir, sweep, placement)
    with processes.all_or_none():
        if processes.is_first():
            pairs = list(zip(sweep.groups, populations, strict=True))
            programs = {group.name: population.fingerprint() for group, population in pairs}
            with storage_errors(workdir):
                check_programs(workdir, programs)
                for group, population in pairs:
                    for wave in waves_of(group.members, population.capacity, workdir / "checkpoints"):
                        check_way_back(workdir, wave.sources, population.template())
                begin(workdir, sweep.record, _described_members(sweep))
                if os.path.lexists(workdir / "summary.json") and (flaw := _flaw_of_summary(workdir)):
                    set_aside(workdir / "summary.json", flaw)  # it is made again at the end
                (workdir / "metrics").mkdir(exist_ok=True)
                (workdir / "checkpoints").mkdir(exist_ok=True)
                write_json(workdir / "placement.json", noted)
                note_programs(workdir, programs)
                tidy_metrics(workdir)
            _report_choices(sweep, populations)
    return populations


def _report_choices(sweep: Sweep, populations: Sequence[Population]) -> None:
    notes = [horizon_without_effect(population.config, population.functions.environment) for population in populations]
    for note in dict.fromkeys(note for note in notes if note is not None):
        print(visible(note), flush=True)
    for group, population in zip(sweep.groups, populations, strict=True):
        # PPO keeps its segments whatever is set.
        if group.config.memory == "auto" and group.config.algorithm != "ppo":
            named = f" in group {group.name}" if len(populations) > 1 else ""
            print(f"Memory: {population.config.memory}{named}, the fastest that fits.", flush=True)


def _placed(workdir: Path, sweep: Sweep, placement: Placement) -> tuple[list[Population], dict[str, Any]]:
    """The population of each group, with as many members on a device as at the first attempt, and its memory.

    Also what `placement.json` says of them.
    """
    noted: dict[str, Any] = {"members_per_device": {}, "memory": {}, "trajectory_devices": None}
    if os.path.lexists(workdir / "placement.json"):
        noted = read_placement(workdir, [group.name for group in sweep.groups])
    elif (workdir / "checkpoints").is_dir() and any((workdir / "checkpoints").iterdir()):
        raise ConfigError(
            f"{workdir / 'placement.json'} is missing, which says how members lie on devices and so decides the bits "
            "of their numbers; put it back, or use another --workdir."
        )
    spread = _as_noted("trajectory_devices", placement.trajectory_devices, noted["trajectory_devices"]) or 1
    populations = []
    for group in sweep.groups:
        block = noted["members_per_device"].get(group.name)
        block = _as_noted("members_per_device", placement.members_per_device, block)
        populations.append(place_group(group, block, spread, noted["memory"].get(group.name)))
    pairs = list(zip(sweep.groups, populations, strict=True))
    return populations, {
        "members_per_device": {group.name: population.members_per_device for group, population in pairs},
        "memory": {group.name: population.config.memory for group, population in pairs},
        "trajectory_devices": spread,
    }


def _described_members(sweep: Sweep) -> list[dict[str, Any]]:
    """What `members.json` holds."""
    return [dataclasses.asdict(member) for member in sweep.members]


class _Chunk(NamedTuple):
    """Updates that have been computed and not yet been written, of the members of this process."""

    metrics: dict[str, np.ndarray]
    env_steps: np.ndarray
    """`[updates, members]`, cumulative."""
    ran: np.ndarray
    """`[updates, members]` boolean, False once a member has stopped."""


class _Decision(NamedTuple):
    """What all processes have agreed on after a chunk."""

    running: bool
    """Whether any member goes on."""
    signal: int
    """One that any process received, or 0."""
    seconds: float
    """Of the slowest process."""
    due: bool
    """Whether it is time for a checkpoint."""
    members: int
    """That still run."""
    diverged: int
    """Members that do not, as their numbers were no longer finite."""


class _Program(NamedTuple):
    """What advances a population."""

    compiled: Compiled
    seconds: float
    """That tracing and compiling it took."""


def _compile(population: Population) -> _Program:
    clock = time.monotonic()
    compiled = population.compiled()
    return _Program(compiled, time.monotonic() - clock)


class _Attempt:
    """One attempt at a run: what its groups and waves share."""

    def __init__(
        self,
        sweep: Sweep,
        populations: Sequence[Population],
        workdir: Path,
        checkpoint_seconds: float,
        stall_seconds: float,
        tensorboard_members: Collection[int],
    ) -> None:
        self.workdir = workdir
        self.checkpoint_seconds = checkpoint_seconds
        self.tensorboard_members = tensorboard_members
        with processes.all_or_none():
            self.provenance = Provenance(workdir, jax.local_devices(), jax.process_index())
        self.watchdog = Watchdog(stall_seconds)
        self.received: list[int] = []
        self.run_seconds = self.compile_seconds = self.saving_seconds = 0.0
        self.timeline: list[tuple[int, float]] = []  # updates done of the wave, seconds of the attempt
        self._sweep = sweep
        self._text = text_settings(sweep.members)
        self._compiler = ThreadPoolExecutor(1)
        self._programs: dict[Any, Future[_Program]] = {}
        self._noted: Any = None
        self._populations = populations
        self._metrics = {
            name: leaf.dtype for population in self._populations for name, leaf in population.metrics_shapes().items()
        }

    def go(self) -> None:
        """Trains from where the folder stands, and completes the folder."""
        # Several processes stop together; one alone has nothing to finish but the updates of `_WaveRun`.
        with contextlib.ExitStack() as stack:
            if jax.process_count() > 1:
                self.received = stack.enter_context(signals.collected(together=True))
            stack.enter_context(self.watchdog)
            pairs = list(zip(self._sweep.groups, self._populations, strict=True))
            waves = [-(-len(group.members) // population.capacity) for group, population in pairs]
            for number, (group, population) in enumerate(pairs, start=1):
                self._train_group(group, population, sum(waves[number:]))
        self.note(outcome="complete")
        processes.barrier("every process has written its metrics")
        if processes.is_first():
            with storage_errors(self.workdir):
                write_json(self.workdir / "summary.json", summarize(self.workdir))
        processes.barrier("the summary is written")
        if self.received:  # after the last decision
            total = self._populations[-1].config.num_updates
            raise Interrupted(self.received[0], total, total)

    def stop(self, number: int, done: int, total: int) -> Interrupted:
        """What to raise when a signal has ended the run early."""
        self.note(outcome=signal.Signals(number).name)
        return Interrupted(number, done, total)

    def writer(self, population: Population) -> MetricsWriter:
        """For the members of this process."""
        return MetricsWriter(
            self.workdir / "metrics",
            population.members_here,
            metrics=self._metrics,
            text=self._text,
            process=jax.process_index(),
            run=run_id(self.workdir),
        )

    def begin_compiling(self, population: Population) -> None:
        """Compiles the program of a group, which its waves share, beside what else there is to do."""
        if population.advance not in self._programs:
            # That of the group before is dropped.
            self._programs = {population.advance: self._compiler.submit(_compile, population)}

    def compiled(self, population: Population) -> Compiled:
        """The program of a group."""
        self.begin_compiling(population)
        compiling = self._programs[population.advance]
        with waiting("Compiling", "Compiled", shown=processes.is_first() and not compiling.done()):
            program = compiling.result()
        if population.advance is not self._noted:
            self._noted = population.advance
            self.compile_seconds += program.seconds
            compilation_cache.seal()
            self.note()
            processes.barrier("every process has compiled")  # which may take longer on some, and is no standstill
        return program.compiled

    def note(self, **entries: Any) -> None:
        """Tells provenance how long things took, and more."""
        self.provenance.update(
            compile_seconds=self.compile_seconds,
            run_seconds=self.run_seconds,
            saving_seconds=self.saving_seconds,
            timeline=self.timeline,
            **entries,
        )

    def _train_group(self, group: Group, population: Population, waves_of_later_groups: int) -> None:
        done = 0
        for wave in waves_of(group.members, population.capacity, self.workdir / "checkpoints"):
            several = len(self._sweep.groups) > 1 or len(wave.members) < len(group.members)
            if several and processes.is_first():
                first, last = wave.members[0].index, wave.members[-1].index
                of_all = f"members {first} to {last} of {len(self._sweep.members)}"
                print(visible(f"Group {group.name}: {of_all}."), flush=True)
            done += len(wave.members)
            waves_after = waves_of_later_groups + -(-(len(group.members) - done) // population.capacity)
            _WaveRun(self, population.with_members(wave.members), wave, waves_after).go()


def _as_noted(flag: str, given: int | None, noted: int | None) -> int | None:
    """What a run was started with, or what is given to one that begins."""
    if None not in (given, noted) and given != noted:
        raise ConfigError(
            f"--{flag}={given} differs from the {noted} that this run was started with, which decides the bits of its "
            "numbers; leave it out, or use another --workdir."
        )
    return noted or given


class _WaveRun:
    """A wave, from where its checkpoints stand to its last update."""

    def __init__(self, attempt: _Attempt, population: Population, wave: Wave, waves_after: int) -> None:
        self._attempt = attempt
        self._population = population
        self._total = population.config.num_updates
        self._waves_after = waves_after
        self._pending: list[_Chunk] = []
        if not wave.sources:  # it begins; one that goes on may have nothing left to do
            attempt.begin_compiling(population)
        with storage_errors(attempt.workdir):
            self._state, self._recorder = self._start(wave)
            self._done = self._recorder.done
        self._scalars = Scalars(
            attempt.workdir / "tensorboard", population.members_here, attempt.tensorboard_members, self._done
        )
        arrays = population.to_arrays(self._state)
        self._env_steps = total_steps(population.here(arrays.env_steps))
        self._share = max(1, len(self._env_steps)) / len(population.members)  # of the members, in this process
        self._diverged = population.here(arrays.diverged)

    def go(self) -> None:
        """Chunk after chunk until the last update or a signal."""
        attempt, decision = self._attempt, self._agree()
        try:
            with processes.company():
                if decision.running and self._done < self._total:
                    if decision.signal:
                        raise attempt.stop(decision.signal, self._done, self._total)
                    self._train()
                self._recorder.close()
        except Stalled:
            raise  # at once: to close the checkpoints means to wait for the process that is gone
        except BaseException:
            with contextlib.suppress(Exception):  # a save in the background may have failed for the same cause
                self._recorder.close()
            raise
        finally:
            attempt.watchdog.pause()
            self._scalars.close()

    def _agree(self, *, seconds: float = 0.0, state: MemberState | None = None, due: bool = False) -> _Decision:
        """What all processes do next, from what each of them sees."""
        state = self._state if state is None else state
        running = self._population.running(state)
        received = self._attempt.received
        counts = [running.sum(), self._population.here(state.diverged).sum()]
        votes = processes.gathered(
            np.array([running.any(), received[0] if received else 0, seconds * 1e3, due, *counts], np.int32)
        )
        most, members, diverged = votes.max(axis=0), *map(int, votes[:, -2:].sum(axis=0))
        return _Decision(bool(most[0]), int(most[1]), max(1, int(most[2])) / 1e3, bool(most[3]), members, diverged)

    def _start(self, wave: Wave) -> tuple[MemberState, Recorder]:
        """The state to go on from, and what records its updates; what comes after it does not stay in the folder."""
        attempt, population = self._attempt, self._population
        begun = go_on(attempt.workdir, wave.sources, population.template(), wave.indices)
        state = population.init() if begun.tree is None else population.resumed(begun.tree)
        if begun.update and processes.is_first():
            print(f"Going on after update {begun.update} of {self._total}.", flush=True)
        attempt.provenance.update(resumed_after_update=begun.update)
        checkpointer = Checkpointer(wave.directory, wave.indices, run=run_id(attempt.workdir))
        writer = attempt.writer(population) if population.members_here else None
        return state, Recorder(attempt.workdir, checkpointer, writer, begun)

    def _train(self) -> None:
        attempt = self._attempt
        advance = attempt.compiled(self._population)
        progress = ProgressReport(
            self._total,
            self._done,
            counts="env steps",
            counted=self._env_steps.sum() / self._share,
            shown=processes.is_first(),
        )
        alone = jax.process_count() == 1
        try:
            with signals.collected() if alone else contextlib.nullcontext(attempt.received) as attempt.received:
                number = self._train_chunks(advance, progress).signal
        finally:
            progress.close()
        if alone and attempt.received:  # maybe after the last decision
            number = attempt.received[0]
        if number:
            raise attempt.stop(number, self._done, self._total)

    def _train_chunks(self, advance: Compiled, progress: ProgressReport) -> _Decision:
        """Chunk after chunk, until what was decided last; its state is in a checkpoint then."""
        attempt, population, size = self._attempt, self._population, 1
        chunk: tuple[int, Metrics, _Decision] | None = None
        last_save: float | None = None
        an_update: float | None = None  # seconds
        state = self._state
        ended = time.monotonic()
        while True:
            size = min(size, population.max_chunk, self._total - self._done)
            if an_update is None and jax.process_count() == 1:
                attempt.watchdog.pause()  # nobody knows how long one takes
            else:
                attempt.watchdog.alive((an_update or 0.0) * size)
            clock = time.monotonic()
            state, metrics = advance(state, np.int32(size))
            if chunk is not None:
                self._fetch(*chunk, progress)
            jax.block_until_ready(state)
            attempt.watchdog.alive()
            seconds = time.monotonic() - clock
            ended = self._lasted(ended)
            self._done += size
            attempt.timeline.append((self._done, attempt.run_seconds))
            due = last_save is None or time.monotonic() - last_save >= attempt.checkpoint_seconds
            decision = self._agree(seconds=seconds, state=state, due=due)
            chunk = size, metrics, decision
            attempt.watchdog.alive()
            over = self._done >= self._total or not decision.running or decision.signal
            if over or decision.due:
                self._fetch(*chunk, progress)
                chunk = None
                self._save(state if decision.running else self._without_idle_updates(state), progress)
                last_save = time.monotonic()
            if over:
                break
            an_update = decision.seconds / size
            size = min(size * _MAX_GROWTH, max(1, int(_CHUNK_SECONDS / an_update)))
        clock = time.monotonic()
        self._recorder.wait()
        attempt.saving_seconds += time.monotonic() - clock
        self._lasted(ended)
        return decision

    def _lasted(self, since: float) -> float:
        """Adds the time since then to that of the run, and returns the time that it is now."""
        now = time.monotonic()
        self._attempt.run_seconds += now - since
        return now

    def _without_idle_updates(self, state: MemberState) -> MemberState:
        """The state with its updates counted to the last one in which a member ran, whatever the chunks were."""
        ran = np.concatenate([chunk.ran.any(axis=1) for chunk in self._pending])
        last = self._recorder.done + (np.flatnonzero(ran)[-1] + 1 if ran.any() else 0)
        idle = self._done - int(processes.gathered(np.array(last)).max())
        self._done -= idle
        return dataclasses.replace(state, updates_done=state.updates_done - idle)

    def _fetch(self, size: int, metrics: Metrics, decision: _Decision, progress: ProgressReport) -> None:
        """Takes a chunk's metrics from the devices and reports them."""
        rows = {name: self._population.here(values, axis=1)[:size] for name, values in metrics.items()}
        taken = rows.pop("env_steps").astype(np.int64)
        env_steps = self._env_steps + np.cumsum(taken, axis=0)
        self._pending.append(_Chunk(rows, env_steps, taken > 0))
        self._env_steps = env_steps[-1]
        returns = rows["episode_return"][taken > 0]
        returns = returns[~np.isnan(returns)]
        mean_return = f"return {returns[-taken.shape[1] :].mean():.4g}" if returns.size else "no episode has ended yet"
        members = len(self._population.members)
        running = f"{decision.members} of {members} members running" if decision.running else "every member has ended"
        diverged = f", {decision.diverged} diverged" if decision.diverged else ""
        done = self._recorder.done + sum(len(chunk.env_steps) for chunk in self._pending)
        budget, left = self._population.config.max_env_steps, self._total - done if decision.running else 0
        if budget is not None:
            left = min(left, updates_within(budget - self._env_steps, taken.mean(axis=0)))
        progress.show(
            done,
            self._env_steps.sum() / self._share,
            f"{mean_return}  {running}{diverged}",
            updates_left=left + self._waves_after * (done + left),
        )

    def _save(self, state: MemberState, progress: ProgressReport) -> None:
        """Records the pending updates, and the state after them."""
        arrays, attempt, first = self._population.to_arrays(state), self._attempt, self._recorder.done
        diverged_at = self._population.here(arrays.diverged_at)
        ran = np.concatenate([chunk.ran for chunk in self._pending])
        metrics = {
            name: np.concatenate([chunk.metrics[name] for chunk in self._pending]) for name in self._pending[0].metrics
        }
        rows = Rows(
            metrics,
            np.concatenate([chunk.env_steps for chunk in self._pending]),
            where=ran,
            diverged=first + np.arange(len(ran))[:, None] == diverged_at,
        )
        clock = time.monotonic()
        self._recorder.commit(
            self._done, arrays, rows, note=attempt.note, beside=lambda: self._scalars.write(first, metrics, ran)
        )
        attempt.saving_seconds += time.monotonic() - clock
        self._report_diverged(self._population.here(arrays.diverged), diverged_at, progress)
        self._pending.clear()

    def _report_diverged(self, diverged: np.ndarray, diverged_at: np.ndarray, progress: ProgressReport) -> None:
        for row in np.flatnonzero(diverged & ~self._diverged):
            member = self._population.members_here[row]
            which = format_settings({"seed": member.seed, **member.settings})
            progress.say(
                f"Member {member.index} ({which}) diverged at update "
                f"{diverged_at[row]}: it is frozen as it was before."
            )
        self._diverged = diverged

"""One wave of members, from where its checkpoints stand to its last update, in chunks of updates.

The devices never wait for a file: while they work on a chunk, the host reports on the chunk before it, and checkpoints
are written in the background. All processes of a run go through the same steps together, and agree after each chunk on
whether the next one follows.
"""

import contextlib
import dataclasses
import time
from typing import NamedTuple

import jax
import numpy as np
from jax.stages import Compiled

from haepo_jax.errors import Stalled
from haepo_jax.population.exchange import DIVERGED
from haepo_jax.population.member import MemberState, total_steps
from haepo_jax.population.population import Population
from haepo_jax.runs.attempt import Attempt
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.progress import ProgressReport, count_updates_within
from haepo_jax.runs.recorder import Recorder, Rows, resume_recording
from haepo_jax.runs.waves import Wave
from haepo_jax.runtime import processes, signals
from haepo_jax.text import format_settings
from haepo_jax.types import Metrics

_CHUNK_SECONDS = 2.0  # aimed at; a chunk is at least one update
_MAX_GROWTH = 8  # from one chunk to the next, as the first is short and its time uncertain


class _Chunk(NamedTuple):
    """Updates that have been computed and not yet been written, of the members of this process."""

    metrics: dict[str, np.ndarray]
    env_steps: np.ndarray
    """`[updates, members]`, cumulative."""
    ran: np.ndarray
    """`[updates, members]` boolean, False once a member has stopped."""
    diverged: np.ndarray | None
    """`[updates, members]` boolean, whether a member has; None without population-based training."""
    settings: dict[str, np.ndarray]
    """`[updates, members]` by dotted name: those that change while members train."""


class _Decision(NamedTuple):
    """What all processes have agreed on after a chunk."""

    running: bool
    """Whether any member still trains."""
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


class WaveRun:
    """A wave, from where its checkpoints stand to its last update."""

    def __init__(self, attempt: Attempt, population: Population, wave: Wave, waves_after: int) -> None:
        """Restores the wave, and removes from the folder what comes after its newest checkpoint.

        Args:
          attempt: what the waves share.
          population: of the members of the wave.
          wave: its members, and where their checkpoints lie.
          waves_after: how many waves of the run come later.
        """
        self._attempt = attempt
        self._population = population
        self._total = population.config.num_updates
        self._waves_after = waves_after
        self._pending: list[_Chunk] = []
        if not wave.sources:  # it begins; one that resumes may have nothing left to do
            attempt.begin_compiling(population)
        with storage_errors(attempt.workdir):
            self._state, self._recorder = self._start(wave)
            self._done = self._recorder.done
        self._loggers = attempt.make_loggers(population, first_update=self._done)
        arrays = population.to_arrays(self._state)
        self._env_steps = total_steps(population.here(arrays.env_steps))
        self._share = max(1, len(self._env_steps)) / len(population.members)  # of the members, in this process
        self._diverged = population.here(arrays.diverged)

    def run(self) -> None:
        """Trains chunk after chunk until the last update or a signal."""
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
            self._loggers.close()

    def _agree(self, *, seconds: float = 0.0, state: MemberState | None = None, due: bool = False) -> _Decision:
        """Decides, for all processes alike, what they do next, from what each of them sees."""
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
        """Restores the newest state, and what records the updates after it; nothing later stays in the folder."""
        attempt, population = self._attempt, self._population
        begun, recorder = resume_recording(
            attempt.workdir,
            attempt.provenance,
            wave.sources,
            population.template(),
            wave.indices,
            attempt.make_writer(population) if population.members_here else None,
            directory=wave.directory,
            total=self._total,
        )
        return population.init() if begun.tree is None else population.resumed(begun.tree), recorder

    def _train(self) -> None:
        attempt = self._attempt
        advance = attempt.compile(self._population)
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
        """Trains chunk after chunk, and returns the last decision; its state is in a checkpoint then."""
        attempt, population, size = self._attempt, self._population, 1
        chunk: tuple[int, Metrics, _Decision] | None = None
        an_update: float | None = None  # seconds
        state = self._state
        ended = time.monotonic()
        while True:
            size = min(size, population.max_chunk, self._total - self._done, self._updates_to_kept())
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
            ended = self._count_seconds(ended)
            self._done += size
            attempt.timeline.append((self._done, attempt.run_seconds))
            due = self._is_kept() or self._recorder.is_due(attempt.checkpoint_seconds)
            decision = self._agree(seconds=seconds, state=state, due=due)
            chunk = size, metrics, decision
            attempt.watchdog.alive()
            over = self._done >= self._total or not decision.running or decision.signal
            if over or decision.due:
                self._fetch(*chunk, progress)
                chunk = None
                self._save(state if decision.running else self._drop_idle_updates(state), progress)
            if over:
                break
            an_update = decision.seconds / size
            size = min(size * _MAX_GROWTH, max(1, int(_CHUNK_SECONDS / an_update)))
        clock = time.monotonic()
        self._recorder.wait()
        attempt.saving_seconds += time.monotonic() - clock
        self._count_seconds(ended)
        return decision

    def _updates_to_kept(self) -> int:
        """Counts the updates to the next checkpoint that is never dropped; all where none is."""
        every = self._attempt.keep_checkpoints_every
        return self._total if every is None else every - self._done % every

    def _is_kept(self) -> bool:
        """Says whether the checkpoint after the updates done is never dropped."""
        every = self._attempt.keep_checkpoints_every
        return every is not None and self._done % every == 0

    def _count_seconds(self, since: float) -> float:
        """Adds the time since then to that of the run, and returns the time that it is now."""
        now = time.monotonic()
        self._attempt.run_seconds += now - since
        return now

    def _drop_idle_updates(self, state: MemberState) -> MemberState:
        """Counts the updates of the state to the last one in which a member ran, whatever the chunks were."""
        ran = np.concatenate([chunk.ran.any(axis=1) for chunk in self._pending])
        last = self._recorder.done + (np.flatnonzero(ran)[-1] + 1 if ran.any() else 0)
        idle = self._done - int(processes.gathered(np.array(last)).max())
        self._done -= idle
        return dataclasses.replace(state, updates_done=state.updates_done - idle)

    def _fetch(self, size: int, metrics: Metrics, decision: _Decision, progress: ProgressReport) -> None:
        """Takes a chunk's metrics from the devices and reports them."""
        rows = {name: self._population.here(values, axis=1)[:size] for name, values in metrics.items()}
        taken = rows.pop("env_steps").astype(np.int64)
        settings = {name: rows.pop(name) for name in self._population.changing}
        env_steps = self._env_steps + np.cumsum(taken, axis=0)
        self._pending.append(_Chunk(rows, env_steps, taken > 0, rows.pop(DIVERGED, None), settings))
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
            left = min(left, count_updates_within(budget - self._env_steps, taken.mean(axis=0)))
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
        metrics, env_steps, ran, diverged, settings = self._join_pending(self._done - first)
        where = ran if diverged is None else ran | diverged
        if diverged is None:
            diverged = first + np.arange(len(ran))[:, None] == diverged_at
        rows = Rows(metrics, env_steps, where=where, diverged=diverged, settings=settings)
        clock = time.monotonic()
        self._recorder.commit(
            self._done,
            arrays,
            rows,
            note=attempt.note,
            beside=lambda: self._loggers.write(first, metrics, ran),
            keep=self._is_kept(),
        )
        attempt.saving_seconds += time.monotonic() - clock
        self._report_diverged(self._population.here(arrays.diverged), diverged_at, progress)
        self._pending.clear()

    def _join_pending(self, updates: int) -> _Chunk:
        """Joins the pending chunks, up to the last update that counts."""
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:updates], *self._pending)

    def _report_diverged(self, diverged: np.ndarray, diverged_at: np.ndarray, progress: ProgressReport) -> None:
        for row in np.flatnonzero(diverged & ~self._diverged):
            member = self._population.members_here[row]
            which = f"Member {member.index} ({format_settings({'seed': member.seed, **member.settings})})"
            copies = self._population.config.pbt.every is not None
            then = "it waits to copy another" if copies else "it is frozen as it was before"
            progress.say(f"{which} diverged at update {diverged_at[row]}: {then}.")
        self._diverged = diverged

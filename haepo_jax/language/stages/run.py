"""One stage's run, from its first update to its last: batches, metrics, checkpoints, signals.

The run folder is that of every other run (config, members, provenance, metrics, checkpoints); what a stage makes of
its result, and the summary that completes the folder, is the stage's own affair.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

from haepo_jax.config.members import Member
from haepo_jax.errors import ConfigError
from haepo_jax.language.data import batches
from haepo_jax.language.stages.frozen_inputs import check_examples, check_frozen
from haepo_jax.language.stages.samples import SamplesWriter
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.runs.component_files import Described
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.loggers import Request, open_loggers
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.progress import ProgressReport
from haepo_jax.runs.provenance import Provenance
from haepo_jax.runs.recorder import Recorder, Rows, resume_recording
from haepo_jax.runs.restore import Source, check_resumable, describe_next_start, set_foreign_parts_aside
from haepo_jax.runtime import signals
from haepo_jax.runtime.watchdog import STALL_SECONDS, Watchdog

NO_LOGGERS = Request({}, ())


class Evaluation(NamedTuple):
    """A look at the learner, now and then."""

    every: int
    """Updates."""
    means: Callable[[LearnerState], dict[str, float]]
    """The measures by name; the metrics hold it as `held_out_NAME`, and NaN after the updates between."""
    names: tuple[str, ...]
    may_fail: bool = False
    """Whether a look may raise a `ConfigError`, as reward functions do: what was learnt before is saved then."""

    def looks_after(self, done: int) -> bool:
        """Returns whether there is a look after so many updates."""
        return done % self.every == 0


class Stage(NamedTuple):
    """The parts of a stage that a run needs."""

    total: int
    """Updates."""
    learner: LearnerState
    """Before the first update, on the devices."""
    frozen: Any
    """Parameters that the updates read and do not change, on the devices."""
    update: Update
    """Compiled, and donates the learner. A `ConfigError` leaves the learner as it was."""
    examples: Any
    """A pytree of NumPy arrays `[N, ...]`."""
    source: str
    """The file or folder that they are from."""
    batch_size: int
    place: Callable[[Any], Any]
    """Examples as the batch on the devices."""
    seed: int
    compile_seconds: float
    watched: str
    """The metric that the progress of the run shows."""
    evaluation: Evaluation | None = None
    prepare: Callable[[LearnerState, Any, Any], float] | None = None
    """`(learner, frozen, batch on the devices) -> seconds`: compiles the update for batches of a shape that is new."""
    samples: SamplesWriter | None = None
    """Keeps the responses of updates, which are written with the metrics."""
    utilisation: Callable[[float], float | None] | None = None
    """`tokens a second -> share of the devices' peak`, None where that is not known."""


class StageResult(NamedTuple):
    """The end of a run."""

    learner: LearnerState
    diverged_at: int | None
    """The update whose loss or gradient was not finite; the learner is the newest checkpoint's then."""
    run_seconds: float
    compile_seconds: float
    tokens: int


@flax.struct.dataclass
class _State:
    """A run between two updates, as NumPy arrays with a leading axis of one run."""

    learner: Any
    cursor: Any
    tokens: np.ndarray
    """`[1]` int64, so far."""


def run(
    stage: Stage,
    workdir: Path,
    components: Described,
    *,
    checkpoint_seconds: float,
    loggers: Request = NO_LOGGERS,
    stall_seconds: float = STALL_SECONDS,
) -> StageResult:
    """Trains from where the folder stands to the last update.

    Args:
      stage: what is run.
      workdir: its folder, opened.
      components: those from outside that it is made with.
      checkpoint_seconds: least time between two checkpoints; metrics are written with each. The first update of an
        attempt and its last one always end with a checkpoint.
      loggers: those that show its metrics elsewhere too; its only member is 0.
      stall_seconds: the process ends itself when an update, but for the first, takes so long and ten times as long as
        the one before it.

    Raises:
      ConfigError: the frozen parameters or the examples are not those that the run was started with.
      StorageError: the folder could not be written any more.
      Interrupted: SIGTERM or SIGINT.
    """
    check_frozen(stage.frozen, workdir)
    check_examples(stage.examples, stage.source, workdir)
    with signals.leaving(lambda: describe_next_start(workdir)):
        return _StageRun(stage, workdir, components, loggers).run(checkpoint_seconds, stall_seconds)


class _StageRun:
    """One attempt at a stage, from where its checkpoints stand to its last update."""

    def __init__(self, stage: Stage, workdir: Path, components: Described, loggers: Request) -> None:
        self._stage, self._workdir, self._components = stage, workdir, components
        self._rows: list[dict[str, np.ndarray]] = []
        self._member = Member(0, stage.seed, {})
        self._run_seconds, self._tokens = 0.0, 0  # of this attempt
        self._compile_seconds = stage.compile_seconds
        self._diverged_at: int | None = None
        with storage_errors(workdir):
            (workdir / "metrics").mkdir(exist_ok=True)
            self._saved, self._recorder = self._start()
        self._loggers = open_loggers(loggers, workdir, [self._member], first_update=self._recorder.done)

    def _start(self) -> tuple[_State, Recorder]:
        """Restores the newest state, and what records the updates after it; nothing later stays in the folder."""
        stage, workdir, directory, only = self._stage, self._workdir, self._workdir / "checkpoints", range(1)
        state = _to_host(stage.learner, batches.start(stage.examples, seed=stage.seed), np.zeros(1, np.int64))
        sources = [Source(directory, only)] if directory.exists() else []
        check_resumable(workdir, sources, state)
        set_foreign_parts_aside(workdir)
        self._provenance = Provenance(workdir, jax.devices(), components=self._components)
        self._provenance.update(compile_seconds=stage.compile_seconds)
        writer = MetricsWriter(workdir / "metrics", [self._member], counter="tokens", run=read_run_id(workdir))
        begun, recorder = resume_recording(
            workdir, self._provenance, sources, state, only, writer, directory=directory, total=stage.total
        )
        if stage.samples is not None:
            stage.samples.begin(workdir, begun.update)
        return state if begun.tree is None else begun.tree, recorder

    def run(self, checkpoint_seconds: float, stall_seconds: float) -> StageResult:
        stage, progress = self._stage, ProgressReport(self._stage.total, self._recorder.done, counts="tokens")
        try:
            with signals.collected() as received, Watchdog(stall_seconds) as watchdog:
                learner = self._train(checkpoint_seconds, received, watchdog, progress)
            if received:
                raise self._provenance.stop(received[0], self._recorder.done, stage.total)
        finally:
            progress.close()
            self._recorder.close()
            self._loggers.close()
        self._provenance.update(outcome="complete" if self._diverged_at is None else "diverged")
        if self._diverged_at is not None:
            learner, _ = _from_host(self._saved, stage.learner)
        return StageResult(
            learner,
            self._diverged_at,
            self._provenance.total("run_seconds"),
            self._provenance.total("compile_seconds"),
            int(self._saved.tokens[0]),
        )

    def _train(
        self, checkpoint_seconds: float, received: list[int], watchdog: Watchdog, progress: ProgressReport
    ) -> LearnerState:
        """Trains update after update, to the last one, a signal or divergence; what is pending is recorded then."""
        stage, done = self._stage, self._recorder.done
        learner, cursor = _from_host(self._saved, stage.learner)
        seconds: float | None = None  # that an update takes
        while done < stage.total and not received:
            if self._rows and self._may_fail_after(done + 1):
                self._save(learner, cursor)
            examples, ahead = batches.next_batch(stage.examples, cursor, stage.batch_size)
            batch = stage.place(examples)
            self._prepare(learner, batch)
            if seconds is not None:  # nobody knows how long the first one takes
                watchdog.alive(seconds)
            clock = time.monotonic()
            try:
                learner, metrics = stage.update(learner, stage.frozen, batch)
            except ConfigError:  # of a reward function; what was learnt before it is kept
                watchdog.pause()
                if self._rows:
                    self._save(learner, cursor)
                raise
            cursor = ahead
            row = {name: np.asarray(value) for name, value in metrics.items()}
            seconds = time.monotonic() - clock
            watchdog.pause()
            self._run_seconds += seconds
            if not np.isfinite(row["loss"] + row["grad_norm"]):
                self._diverged_at = done
                return learner
            done += 1
            self._rows.append(row | self._evaluate(learner, done))
            self._tokens += int(row["tokens"])
            progress.show(done, self._tokens, self._note(row, seconds))
            if self._recorder.is_due(checkpoint_seconds):
                self._save(learner, cursor)
        if self._rows:
            self._save(learner, cursor)
        return learner

    def _prepare(self, learner: LearnerState, batch: Any) -> None:
        """Compiles for batches of a shape that is new; its time is not counted among the run's."""
        if self._stage.prepare is None:
            return
        seconds = self._stage.prepare(learner, self._stage.frozen, batch)
        if seconds:
            self._compile_seconds += seconds
            self._provenance.update(compile_seconds=self._compile_seconds)

    def _evaluate(self, learner: LearnerState, done: int) -> dict[str, np.ndarray]:
        """Looks at the state after this update; its time is not counted among the run's."""
        evaluation = self._stage.evaluation
        if evaluation is None:
            return {}
        seen = evaluation.means(learner) if evaluation.looks_after(done) else dict.fromkeys(evaluation.names, np.nan)
        return {f"held_out_{name}": np.asarray(seen[name], np.float32) for name in evaluation.names}

    def _may_fail_after(self, done: int) -> bool:
        """Returns whether the look at the state after this update may raise an error."""
        evaluation = self._stage.evaluation
        return evaluation is not None and evaluation.may_fail and evaluation.looks_after(done)

    def _note(self, row: dict[str, np.ndarray], seconds: float) -> str:
        watched, utilisation = self._stage.watched, self._stage.utilisation
        note = f"{watched.replace('_', ' ')} {float(row[watched]):.4g}"
        share = None if utilisation is None else utilisation(int(row["tokens"]) / seconds)
        return note if share is None else f"{note}  {share:.0%} of the peak"

    def _save(self, learner: LearnerState, cursor: batches.Cursor) -> None:
        """Writes the pending metrics, then the checkpoint that makes them count."""
        metrics = {name: np.stack([row[name] for row in self._rows])[:, None] for name in self._rows[0]}
        tokens = self._saved.tokens + np.cumsum(metrics.pop("tokens").astype(np.int64), axis=0)
        first = self._recorder.done
        state, done = _to_host(learner, cursor, tokens[-1]), first + len(self._rows)
        rows = Rows(metrics, tokens, where=np.ones_like(tokens, bool), diverged=np.zeros_like(tokens, bool))
        self._recorder.commit(
            done,
            state,
            rows,
            note=lambda: self._provenance.update(run_seconds=self._run_seconds),
            beside=lambda: self._write_beside(first, metrics | {"tokens": tokens}, rows.where),
        )
        self._recorder.wait()
        self._saved = state
        self._rows.clear()

    def _write_beside(self, first: int, metrics: dict[str, np.ndarray], where: np.ndarray) -> None:
        """Writes what goes with the rows of updates from `first` on: to loggers, and responses."""
        self._loggers.write(first, metrics, where)
        if self._stage.samples is not None:
            self._stage.samples.write(self._workdir)


def _to_host(learner: LearnerState, cursor: batches.Cursor, tokens: np.ndarray) -> _State:
    bare = dataclasses.replace(learner, key=jax.random.key_data(learner.key))
    bare, cursor = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (bare, cursor))
    return _State(bare, cursor, tokens)


def _from_host(state: _State, like: LearnerState) -> tuple[LearnerState, batches.Cursor]:
    """Returns the learner on the devices, placed as `like`, and the cursor."""
    bare = dataclasses.replace(like, key=jax.random.key_data(like.key))
    learner = jax.tree.map(lambda leaf, like: jax.device_put(leaf[0], like.sharding), state.learner, bare)
    return dataclasses.replace(learner, key=jax.random.wrap_key_data(learner.key)), jax.tree.map(
        lambda leaf: leaf[0], state.cursor
    )

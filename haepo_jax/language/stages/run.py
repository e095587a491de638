"""One stage's run, from its first update to its last: batches, metrics, checkpoints, signals.

The run folder is that of every other run (config, members, provenance, metrics, checkpoints); what a stage makes of
its result, and the summary that completes the folder, is the stage's own affair.
"""

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

from haepo_jax.config.members import Member
from haepo_jax.errors import Interrupted
from haepo_jax.language.data import batches
from haepo_jax.language.stages.frozen_inputs import hold_to_examples, hold_to_frozen
from haepo_jax.language.training.learner import LearnerState, Update
from haepo_jax.runs.checkpoints import Checkpointer
from haepo_jax.runs.component_files import Described
from haepo_jax.runs.folder import storage_errors
from haepo_jax.runs.identity import read_run_id
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.progress import ProgressReport
from haepo_jax.runs.provenance import Provenance
from haepo_jax.runs.recorder import Recorder, Rows
from haepo_jax.runs.restore import Source, check_resumable, describe_next_start, resume, set_foreign_parts_aside
from haepo_jax.runtime import signals


class Evaluation(NamedTuple):
    """A look at the learner, now and then."""

    every: int
    """Updates."""
    means: Callable[[LearnerState], dict[str, float]]
    """The measures by name; the metrics hold it as `held_out_NAME`, and NaN after the updates between."""
    names: tuple[str, ...]


class Stage(NamedTuple):
    """The parts of a stage that a run needs."""

    total: int
    """Updates."""
    learner: LearnerState
    """Before the first update, on the devices."""
    frozen: Any
    """Parameters that the updates read and do not change, on the devices."""
    update: Update
    """Compiled, and donates the learner."""
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


class Outcome(NamedTuple):
    """How a run ended."""

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


def run(stage: Stage, workdir: Path, components: Described, *, checkpoint_seconds: float) -> Outcome:
    """Goes from where the folder stands to the last update.

    Args:
      stage: what is run.
      workdir: its folder, opened.
      components: those from outside that it is made with.
      checkpoint_seconds: least time between two checkpoints; metrics are written with each.

    Raises:
      ConfigError: the frozen parameters or the examples are not those that the run was started with.
      StorageError: the folder could not be written any more.
      Interrupted: SIGTERM or SIGINT.
    """
    hold_to_frozen(stage.frozen, workdir)
    hold_to_examples(stage.examples, stage.source, workdir)
    with signals.leaving(lambda: describe_next_start(workdir)):
        return _Run(stage, workdir, components).go(checkpoint_seconds)


class _Run:
    """The state of one attempt, while it runs."""

    def __init__(self, stage: Stage, workdir: Path, components: Described) -> None:
        self._stage, self._workdir, self._components = stage, workdir, components
        self._rows: list[dict[str, np.ndarray]] = []
        self._run_seconds, self._tokens = 0.0, 0  # of this attempt
        with storage_errors(workdir):
            (workdir / "metrics").mkdir(exist_ok=True)
            self._saved, self._recorder = self._start()

    def _start(self) -> tuple[_State, Recorder]:
        """The state to continue from, and its recorder; what comes after it does not stay in the folder."""
        stage, workdir, directory, only = self._stage, self._workdir, self._workdir / "checkpoints", range(1)
        state = _to_host(stage.learner, batches.start(stage.examples, seed=stage.seed), np.zeros(1, np.int64))
        sources = [Source(directory, only)] if directory.exists() else []
        check_resumable(workdir, sources, state)
        set_foreign_parts_aside(workdir)
        self._provenance = Provenance(workdir, jax.devices(), components=self._components)
        begun = resume(workdir, sources, state, only)
        if begun.update:
            print(f"Going on after update {begun.update} of {stage.total}.")
        self._provenance.update(compile_seconds=stage.compile_seconds, resumed_after_update=begun.update)
        run = read_run_id(workdir)
        writer = MetricsWriter(workdir / "metrics", [Member(0, stage.seed, {})], counter="tokens", run=run)
        recorder = Recorder(workdir, Checkpointer(directory, only, run=run), writer, begun)
        return state if begun.tree is None else begun.tree, recorder

    def go(self, checkpoint_seconds: float) -> Outcome:
        stage, progress = self._stage, ProgressReport(self._stage.total, self._recorder.done, counts="tokens")
        diverged_at = None
        try:
            with signals.collected() as received:
                learner, cursor = _from_host(self._saved, stage.learner)
                done, last_save = self._recorder.done, time.monotonic()
                while done < stage.total and not received:
                    clock = time.monotonic()
                    examples, cursor = batches.next_batch(stage.examples, cursor, stage.batch_size)
                    learner, metrics = stage.update(learner, stage.frozen, stage.place(examples))
                    row = {name: np.asarray(value) for name, value in metrics.items()}
                    self._run_seconds += time.monotonic() - clock
                    if not np.isfinite(row["loss"] + row["grad_norm"]):
                        diverged_at = done
                        break
                    done += 1
                    self._rows.append(row | self._evaluated(learner, done))
                    self._tokens += int(row["tokens"])
                    progress.show(done, self._tokens, self._note(row))
                    if time.monotonic() - last_save >= checkpoint_seconds:
                        self._save(learner, cursor)
                        last_save = time.monotonic()
                if self._rows and diverged_at is None:
                    self._save(learner, cursor)
            if received:
                self._provenance.update(outcome=signal.Signals(received[0]).name)
                raise Interrupted(received[0], self._recorder.done, stage.total)
        finally:
            progress.close()
            self._recorder.close()
        self._provenance.update(outcome="complete" if diverged_at is None else "diverged")
        if diverged_at is not None:
            learner, _ = _from_host(self._saved, stage.learner)
        return Outcome(
            learner,
            diverged_at,
            self._provenance.total("run_seconds"),
            self._provenance.total("compile_seconds"),
            int(self._saved.tokens[0]),
        )

    def _evaluated(self, learner: LearnerState, done: int) -> dict[str, np.ndarray]:
        """Looks at the state after this update; its time is not counted among the run's."""
        evaluation = self._stage.evaluation
        if evaluation is None:
            return {}
        seen = evaluation.means(learner) if done % evaluation.every == 0 else dict.fromkeys(evaluation.names, np.nan)
        return {f"held_out_{name}": np.asarray(seen[name], np.float32) for name in evaluation.names}

    def _note(self, row: dict[str, np.ndarray]) -> str:
        watched = self._stage.watched
        return f"{watched.replace('_', ' ')} {float(row[watched]):.4g}"

    def _save(self, learner: LearnerState, cursor: batches.Cursor) -> None:
        """Writes the pending metrics, then the checkpoint that makes them count."""
        metrics = {name: np.stack([row[name] for row in self._rows])[:, None] for name in self._rows[0]}
        tokens = self._saved.tokens + np.cumsum(metrics.pop("tokens").astype(np.int64), axis=0)
        state, done = _to_host(learner, cursor, tokens[-1]), self._recorder.done + len(self._rows)
        rows = Rows(metrics, tokens, where=np.ones_like(tokens, bool), diverged=np.zeros_like(tokens, bool))
        self._recorder.commit(
            done, state, rows, note=lambda: self._provenance.update(run_seconds=self._run_seconds), beside=lambda: None
        )
        self._recorder.wait()
        self._saved = state
        self._rows.clear()


def _to_host(learner: LearnerState, cursor: batches.Cursor, tokens: np.ndarray) -> _State:
    bare = dataclasses.replace(learner, key=jax.random.key_data(learner.key))
    bare, cursor = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (bare, cursor))
    return _State(bare, cursor, tokens)


def _from_host(state: _State, like: LearnerState) -> tuple[LearnerState, batches.Cursor]:
    """The learner on the devices, placed as `like`, and the cursor."""
    bare = dataclasses.replace(like, key=jax.random.key_data(like.key))
    learner = jax.tree.map(lambda leaf, like: jax.device_put(leaf[0], like.sharding), state.learner, bare)
    return dataclasses.replace(learner, key=jax.random.wrap_key_data(learner.key)), jax.tree.map(
        lambda leaf: leaf[0], state.cursor
    )

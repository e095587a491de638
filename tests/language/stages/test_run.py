"""The run of a stage, with an update that adds up its examples in place of a language model."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.listing_logger import Listing
from helpers.run_folders import table
from helpers.stopped_stages import stop_after

from haepo_jax.errors import ConfigError, Interrupted
from haepo_jax.language.stages import run as module
from haepo_jax.language.stages.run import Evaluation, Stage, run
from haepo_jax.language.stages.samples import SamplesWriter, read_samples
from haepo_jax.language.training.learner import LearnerState
from haepo_jax.runs.checkpoints import list_saved
from haepo_jax.runs.files import read_attempts
from haepo_jax.runs.identity import open_run
from haepo_jax.runs.loggers import make_request

TOTAL = 4


def update(learner, frozen, batch):
    total = learner.trained + batch.sum()
    done = dataclasses.replace(learner, trained=total, updates_done=learner.updates_done + 1)
    return done, {"loss": total, "grad_norm": np.float32(1), "tokens": np.int32(5)}


def stage(**changes):
    learner = LearnerState(jax.numpy.float32(0), (), jax.random.key(0), jax.numpy.int32(0))
    examples = np.arange(10, dtype=np.float32)
    plain = Stage(TOTAL, learner, None, update, examples, "examples", 3, lambda batch: batch, 0, 1.5, "loss")
    return plain._replace(**changes)


def train(workdir, changed=None, checkpoint_seconds=0.0, loggers=()):
    with open_run(workdir, {"seed": 0}, [{"index": 0, "seed": 0, "settings": {}}]):
        requested = make_request(loggers, (0,), 1)
        return run(changed or stage(), workdir, {}, checkpoint_seconds=checkpoint_seconds, loggers=requested)


def test_a_stage_that_was_stopped_resumes_to_the_end_of_one_that_was_not(tmp_path, monkeypatch, capsys):
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted, match="Stopped after update 2 of 4"):
            train(tmp_path / "stopped")
    assert read_attempts(tmp_path / "stopped")[0]["outcome"] == "SIGTERM"
    result = train(tmp_path / "stopped")
    assert "Resuming after update 2 of 4." in capsys.readouterr().out
    assert table(tmp_path / "stopped").equals(table(tmp_path / "whole"))
    assert (float(result.learner.trained), result.tokens) == (float(whole.learner.trained), 20)
    first, second = read_attempts(tmp_path / "stopped")
    assert (first["resumed_after_update"], second["resumed_after_update"]) == (0, 2)
    assert second["outcome"] == "complete" and result.compile_seconds == 3.0


def test_loggers_see_every_update_once_also_of_a_stage_that_was_stopped(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            train(tmp_path, loggers=[Listing])
    train(tmp_path, loggers=[Listing])
    first, second = Listing.made
    assert (first.run.first_update, second.run.first_update) == (0, 2) and first.run.id == second.run.id
    assert first.closed and second.closed and first.run.config == {"seed": 0}
    assert [update for update, _ in first.rows + second.rows] == [0, 1, 2, 3]
    losses = table(tmp_path)["loss"].to_pylist()
    assert [row["loss"] for _, row in first.rows + second.rows] == losses
    assert [row["tokens"] for _, row in first.rows + second.rows] == [5, 10, 15, 20]


def test_the_first_update_and_the_last_one_end_with_a_checkpoint(tmp_path):
    train(tmp_path, checkpoint_seconds=1000)
    assert [saved.update for saved in list_saved(tmp_path / "checkpoints")] == [4, 1]


def test_a_stage_that_diverges_has_the_learner_of_its_newest_checkpoint(tmp_path):
    def diverges(learner, frozen, batch):
        after, metrics = update(learner, frozen, batch)
        return after, metrics | {"loss": np.where(after.updates_done == 3, np.nan, metrics["loss"])}

    result = train(tmp_path, stage(update=diverges))
    assert result.diverged_at == 2 and int(result.learner.updates_done) == 2
    assert read_attempts(tmp_path)[0]["outcome"] == "diverged"


def test_updates_after_the_first_are_watched_and_what_is_between_them_is_not(tmp_path, monkeypatch):
    seen = []

    class Watched(module.Watchdog):
        def alive(self, expected=0.0):
            seen.append("watched")

        def pause(self):
            seen.append("paused")

    def evaluate(learner):
        seen.append("evaluated")
        return {"accuracy": 0.5}

    monkeypatch.setattr(module, "Watchdog", Watched)
    train(tmp_path, stage(total=2, evaluation=Evaluation(1, evaluate, ("accuracy",))))
    assert seen == ["paused", "evaluated", "watched", "paused", "evaluated"]
    np.testing.assert_array_equal(table(tmp_path)["held_out_accuracy"], [0.5, 0.5])


def test_what_was_learnt_before_an_update_that_is_refused_is_kept(tmp_path):
    def refuses(learner, frozen, batch):
        if int(learner.updates_done) == 2:
            raise ConfigError("no reward")
        return update(learner, frozen, batch)

    train(tmp_path / "whole")
    with pytest.raises(ConfigError, match="no reward"):
        train(tmp_path / "refused", stage(update=refuses), checkpoint_seconds=1000)
    assert [saved.update for saved in list_saved(tmp_path / "refused" / "checkpoints")] == [2, 1]
    train(tmp_path / "refused")
    assert table(tmp_path / "refused").equals(table(tmp_path / "whole"))


def test_what_was_learnt_before_a_look_that_fails_is_kept(tmp_path):
    def looks(learner):
        if int(learner.updates_done) == 4:
            raise ConfigError("no reward")
        return {"reward": 1.0}

    fine = Evaluation(2, lambda learner: {"reward": 1.0}, ("reward",), may_fail=True)
    train(tmp_path / "whole", stage(evaluation=fine))
    with pytest.raises(ConfigError, match="no reward"):
        train(tmp_path / "refused", stage(evaluation=fine._replace(means=looks)), checkpoint_seconds=1000)
    assert [saved.update for saved in list_saved(tmp_path / "refused" / "checkpoints")] == [3, 1]
    train(tmp_path / "refused", stage(evaluation=fine))
    np.testing.assert_equal(*(table(tmp_path / name).to_pydict() for name in ("refused", "whole")))


def test_the_time_to_compile_for_new_shapes_counts_as_that_of_compiling(tmp_path):
    assert train(tmp_path, stage(prepare=lambda learner, frozen, batch: 0.25)).compile_seconds == 2.5


def test_responses_are_written_before_the_checkpoint_that_makes_their_update_count(tmp_path):
    samples = SamplesWriter(2)

    def writes(learner, frozen, batch):
        if samples.wants(int(learner.updates_done)):
            samples.add(int(learner.updates_done), {"completion": ["a", "b"]})
        return update(learner, frozen, batch)

    train(tmp_path, stage(update=writes, samples=samples))
    assert read_samples(tmp_path).to_pydict() == {"update": [1, 1, 3, 3], "completion": ["a", "b", "a", "b"]}

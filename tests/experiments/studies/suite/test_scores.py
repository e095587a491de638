"""Scores: the end of a curve, on the scale of its task."""

import dataclasses

import numpy as np
import pytest
from helpers.made_up_runs import Trainer
from helpers.made_up_suites import SMALL

from experiments.studies import runs as study_runs
from experiments.studies.runs import Runs
from experiments.studies.suite.methods import PPO
from experiments.studies.suite.scores import score
from experiments.studies.suite.selection import make_settings
from experiments.studies.suite.tasks import FROZEN_LAKE, MOUNTAIN_CAR, REPORTED, TUNING

(ARMS,) = [task for task in REPORTED if task.name == "gaussian_arms"]


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """Makes a run of two seeds from the metric of each after its 12 updates."""

    def make(task, learn):
        monkeypatch.setattr(study_runs, "run_sweep", Trainer(learn, tmp_path))
        settings = {**make_settings(task, PPO, 1.0), "num_seeds": 2}
        return Runs(tmp_path / "w", SMALL).get("x", settings)

    return make


def test_random_play_is_0_and_the_best_known_1_without_clipping():
    scores = np.array([-200.0, -100.8, -150.4, -101.0 + 20])
    np.testing.assert_allclose(MOUNTAIN_CAR.normalize(scores, -200.0)[:3], [0.0, 1.0, 0.5])
    assert MOUNTAIN_CAR.normalize(scores, -200.0)[3] > 1.0
    assert MOUNTAIN_CAR.normalize(np.array(-250.0), -200.0) < 0.0


def test_a_score_is_the_mean_over_the_last_tenth_of_the_steps(run_of):
    run = run_of(FROZEN_LAKE, lambda config, member: np.append(np.zeros(11), 0.744 * member.seed))
    found = score(FROZEN_LAKE, run, 0.0)
    # The last of 12 updates ends with the budget; at the nine points before it the newest value is the one before.
    np.testing.assert_allclose(found.final, [0.0, 0.0744], atol=1e-6)
    np.testing.assert_allclose(found.normalized, [0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(found.area, [0.0, 0.01], atol=1e-6)


def test_a_cost_counts_by_its_negative(run_of):
    run = run_of(ARMS, lambda config, member: np.full(12, 0.5 * member.seed))
    found = score(ARMS, run, -2.0)
    np.testing.assert_allclose(found.final, [0.0, -0.5])
    np.testing.assert_allclose(found.normalized, [1.0, 0.75])


def test_a_run_that_diverged_counts_as_random_play_from_there_on(run_of):
    run = run_of(ARMS, lambda config, member: np.full(6 if member.seed else 12, 0.1))
    np.testing.assert_allclose(score(ARMS, run, -2.0).normalized, [0.95, 0.0])
    assert 0.4 < score(ARMS, run, -2.0).area[1] < 0.6


def test_scores_of_some_runs_are_taken_from_all(run_of):
    found = score(ARMS, run_of(ARMS, lambda config, member: np.full(12, 0.5 * member.seed)), -2.0)
    assert dataclasses.asdict(found.rows([1]))["normalized"] == pytest.approx([0.75])


def test_tasks_have_names_of_their_own_and_a_source_for_their_best():
    tasks = (*REPORTED, *TUNING)
    assert len({task.name for task in tasks}) == len({task.label for task in tasks}) == len(tasks)
    assert all(task.source for task in tasks)

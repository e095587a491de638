"""Suites that nobody trained: how far every run gets is the test's."""

import dataclasses

import numpy as np
import pytest
from helpers.made_up_runs import UPDATES, Trainer
from helpers.made_up_studies import MadeStudy, not_drawn

from experiments.studies import runs as study_runs
from experiments.studies.suite import random_play
from experiments.studies.suite.scale import FULL
from experiments.studies.suite.study import run_suite
from experiments.studies.suite.tasks import (
    CARTPOLE,
    DISCOUNTING_CHAIN,
    FROZEN_LAKE,
    MOUNTAIN_CAR,
    REPORTED,
    TUNING,
    UMBRELLA_CHAIN,
)
from haepo_jax.reports import figures

TARGETED = (CARTPOLE, MOUNTAIN_CAR, DISCOUNTING_CHAIN, UMBRELLA_CHAIN, FROZEN_LAKE)
SMALL = dataclasses.replace(FULL, reported=TARGETED, tuning=TUNING[1:2], seeds=5, tuning_seeds=1)
ONE_TASK = dataclasses.replace(SMALL, reported=(FROZEN_LAKE,))
RANDOM = {"mountain_car": -200.0, "acrobot": -500.0}
"""Made-up scores of random play; elsewhere 0."""


def name_method(config):
    """The name of the method in the suite that a config is of."""
    if config.algorithm != "haepo":
        return config.algorithm
    return "haepo" if config.haepo.adapt == "ess" else "haepo_fixed"


def find_task(config):
    """The task of the suite that a config is of."""
    return next(task for task in (*REPORTED, *TUNING) if task.settings["env"] == config.env)


def made_up(level):
    """Makes a `learn` for `Trainer` of `level(task, method, member)`, the normalised score at the end."""

    def learn(config, member):
        task = find_task(config)
        random = RANDOM.get(task.name, 0.0)
        rise = np.minimum(np.linspace(0, 2, UPDATES), 1.0)
        scores = random + level(task, name_method(config), member) * rise * (task.best - random)
        return task.sign * scores

    return learn


def without_training(patch, level, folder):
    """Makes the suite use made-up numbers for all that takes long; returns what stands in for training."""
    trainer = Trainer(made_up(level), folder)
    patch.setattr(study_runs, "run_sweep", trainer)
    patch.setattr(random_play, "measure", lambda task, episodes: RANDOM.get(task.name, 0.0))
    return trainer


def make_suite(level, folder, scale=SMALL):
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, level, folder)
        patch.setattr(figures, "responsive", not_drawn)
        published = run_suite(folder / "w", scale)
    assert published.page == folder / "w" / "report.html"
    return MadeStudy(folder / "w", trainer)

"""Studies of segments that nobody trained: how far every run gets is the test's."""

import dataclasses

import numpy as np
import pytest
from helpers.made_up_runs import UPDATES, Trainer
from helpers.made_up_studies import MadeStudy, not_drawn

from experiments.studies import run_data
from experiments.studies import runs as study_runs
from experiments.studies.segments import study, tasks
from experiments.studies.segments.scale import FULL
from experiments.studies.suite import random_play
from haepo_jax.reports import figures

SMALL = dataclasses.replace(
    FULL,
    games=(tasks.GAMES[0], tasks.BREAKOUT),
    seeds=6,
    tuning_seeds=1,
    lengths=(1, 8),
    memory=(tasks.MEMORY[0], tasks.MEMORY[-1]),
)
ONE_GAME = dataclasses.replace(SMALL, games=(tasks.BREAKOUT,), lengths=(1,))
BEST = {task.settings["env"]: task.best for task in tasks.GAMES}
RIGHT_B = 1.25
"""The b that made-up controllers take."""


def without_training(patch, level, folder):
    """Makes the study use made-up numbers: `level(config, member)` is the normalised score at the end."""

    def learn(config, member):
        return level(config, member) * BEST.get(config.env, 1.0) * np.minimum(np.linspace(0, 2, UPDATES), 1.0)

    def metric(run, name):
        return np.full((len(run.members), UPDATES), RIGHT_B) if name == "target_temperature" else measured(run, name)

    measured = run_data.RunData.metric
    trainer = Trainer(learn, folder)
    patch.setattr(study_runs, "run_sweep", trainer)
    patch.setattr(run_data.RunData, "metric", metric)
    patch.setattr(study, "can_run", lambda directory, task: task is not tasks.MEMORY[-1])  # whatever is installed
    patch.setattr(random_play, "measure", lambda task, episodes: 0.0)
    return trainer


class MadeSegments(MadeStudy):
    """What a study of segments wrote."""

    def row(self, section, name):
        """A row of a section's table, by the name of the column."""
        (table,) = self.tables[section]
        (found,) = [row for row in table["rows"] if row[0] == name]
        return dict(zip(table["columns"], found, strict=True))


def make_study(level, folder, scale=SMALL):
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, level, folder)
        patch.setattr(figures, "responsive", not_drawn)
        published = study.run_study(folder / "w", scale)
    assert published.page == folder / "w" / "report.html"
    return MadeSegments(folder / "w", trainer)

"""Studies of many agents that nobody trained: how far a run gets, and what its policies are like, is the test's."""

import dataclasses

import numpy as np
import pytest
from helpers.made_up_runs import UPDATES, Trainer
from helpers.made_up_studies import MadeStudy, not_drawn

from experiments.studies import run_data
from experiments.studies import runs as study_runs
from experiments.studies.agents import self_play, study
from experiments.studies.agents.scale import FULL
from experiments.studies.suite import random_play
from haepo_jax.config import from_config_dict
from haepo_jax.reports import figures

SMALL = dataclasses.replace(FULL, numbers=(2, 4), seeds=6, many_seeds=8, enough_seeds=6, tuning_seeds=1, checkpoints=4)
CHECKPOINTS = (3, 6, 9, 12)
SHARPNESS = 0.25
"""The b that made-up runs took."""


class Alike:
    """A story in which nothing differs."""

    def level(self, config, member):
        return 1.0

    def share(self, config):
        return 0.5

    def policy(self, config, member):
        return [0.5] * len(CHECKPOINTS), 0.5, 0.5


class MadeAgents(MadeStudy):
    """What a study of many agents wrote."""

    def row(self, section, name, number=0):
        """A row of one of a section's tables, by the name of the column."""
        table = self.tables[section][number]
        (found,) = [row for row in table["rows"] if row[0] == name]
        return dict(zip(table["columns"], found, strict=True))


def count_agents(config):
    """The agents of a made-up run."""
    return config.env_kwargs.get("num_agents", 3)


def without_training(patch, story, folder, installed=True):
    """Makes the study use made-up numbers.

    `story.level(config, member)` is the return at the end, `story.share(config)` the effective sample size as a share
    of 64, and `story.policy(config, member)` the exploitability at each checkpoint with the shares of games that are
    lost at the end against random play and against the perfect player.
    """

    def learn(config, member):
        return story.level(config, member) * np.minimum(np.linspace(0, 2, UPDATES), 1.0)

    def metric(run, name):
        if name not in ("effective_sample_size", "max_weight", "target_temperature"):
            return measured(run, name)
        share = story.share(from_config_dict(run.config))
        made = {"effective_sample_size": 64 * share, "max_weight": 0.5, "target_temperature": SHARPNESS}
        return np.full((len(run.members), UPDATES), made[name])

    def look(path, every):
        run = run_data.RunData(path)
        config = from_config_dict(run.config)
        policies = [story.policy(config, member) for member in run.members]
        exploitability, to_random, to_perfect = (np.array(part, np.float64) for part in zip(*policies, strict=True))
        found = {"updates": list(CHECKPOINTS), "points": [make_points()] * len(policies)}
        for prefix in ("", "greedy_"):
            found[prefix + "exploitability"] = exploitability.T.tolist()
            for name, values in (("lost_to_random", to_random), ("lost_to_perfect", to_perfect)):
                found[prefix + name] = np.tile(values, (len(CHECKPOINTS), 1)).tolist()
        return found

    measured = run_data.RunData.metric
    trainer = Trainer(learn, folder)
    patch.setattr(study_runs, "run_sweep", trainer)
    patch.setattr(run_data.RunData, "metric", metric)
    patch.setattr(self_play, "measure_policies", look)
    patch.setattr(study, "can_run", lambda directory, task, names: installed)
    patch.setattr(random_play, "measure", lambda task, episodes: task.best - 10.0)
    return trainer


def make_points():
    """Each policy makes 0.6 points against those before it and 0.9 against random play; one worse than its first."""
    size = len(CHECKPOINTS) + 1
    points = np.full((size, size), 0.5)
    for later in range(1, size - 1):
        points[later, :later], points[:later, later] = 0.6, 0.4
    points[-1, :-1], points[:-1, -1] = 0.1, 0.9
    points[2, 0], points[0, 2] = 0.3, 0.7
    return points.tolist()


def make_study(story, folder, scale=SMALL, parts=tuple(study.PARTS), installed=True):
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, story, folder, installed)
        patch.setattr(figures, "responsive", not_drawn)
        published = study.run_study(folder / "w", scale, parts)
    assert published.page == folder / "w" / "report.html"
    return MadeAgents(folder / "w", trainer)

import dataclasses

import pytest

from experiments.studies.pbt import study
from experiments.studies.pbt.scale import QUICK
from experiments.studies.pbt.tasks import BOUNDS, TASKS
from experiments.studies.runs import count_finished


@pytest.mark.slow
def test_the_comparison_runs_once_and_its_page_says_what_it_found(tmp_path, monkeypatch):
    # Of less, members end before the first evaluation.
    tiny = dataclasses.replace(QUICK, populations=2, members=4, budget=0.05)
    page, headline = study.run_study(tmp_path, tiny)
    assert headline.startswith(
        "At equal environment steps, by greedy return: the best member of PBT on CartPole-v1 is"
    )
    assert count_finished(tmp_path) == tiny.runs
    monkeypatch.setattr("experiments.studies.runs._finish", lambda *_: pytest.fail("it was there already"))
    assert study.run_study(tmp_path, tiny) == (page, headline)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_both_methods_have_the_same_first_settings_and_steps(task):
    settings = task.settings(1.0)
    assert settings["max_env_steps"] == task.budget and settings["pbt.every"] < settings["num_updates"]
    assert {f"pbt.perturb.{name}" for name in BOUNDS} <= settings.keys()

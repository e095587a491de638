"""Settings are chosen on tuning seeds and tuning tasks alone."""

import dataclasses

import numpy as np
import pytest
from helpers.made_up_suites import SMALL, find_task, name_method, without_training

from experiments.studies.methods import nest_settings
from experiments.studies.runs import Runs
from experiments.studies.suite.methods import HAEPO, METHODS, PPO, SETTINGS_PER_METHOD
from experiments.studies.suite.results import measure
from experiments.studies.suite.scale import FULL, QUICK
from experiments.studies.suite.selection import TUNING_SEED, choose_one, make_settings, tune
from experiments.studies.suite.tasks import FROZEN_LAKE, REPORTED, TUNING
from haepo_jax.config import ExperimentConfig, from_config_dict, traced_settings
from haepo_jax.fields import leaves
from haepo_jax.population.member import make_environment

TUNING_NAMES = {task.name for task in TUNING}


def place(name, member):
    """The place of a member's setting among those of its method, from 0."""
    (method,) = [method for method in METHODS if method.name == name]
    return method.settings().index({key: member.settings[key] for key in method.grid})


def third_on_tuning_tasks_fifth_on_others(task, method, member):
    """On tuning seeds the third setting is best on tuning tasks, else the fifth; on reported seeds the last is."""
    on_tuning_seeds = 2 if task.name in TUNING_NAMES else 4
    best = on_tuning_seeds if member.seed >= TUNING_SEED else SETTINGS_PER_METHOD - 1
    return 1 - 0.1 * abs(place(method, member) - best)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    runs = Runs(folder / "w", dataclasses.replace(SMALL, reported=SMALL.reported[-2:], tuning=TUNING[:2]))
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, third_on_tuning_tasks_fifth_on_others, folder)
        return measure(runs), runs, trainer


def test_the_one_setting_is_the_best_of_the_tuning_tasks_whatever_reported_tasks_and_seeds_say(measured):
    results, _, _ = measured
    for method in METHODS:
        assert results.one[method.name].chosen == method.settings()[2]
        assert results.one[method.name].scores[2] == pytest.approx(1.0)


def test_a_setting_tuned_for_a_task_is_the_best_of_its_own_tuning_seeds(measured):
    results, _, _ = measured
    for task in results.tasks:
        for method in METHODS:
            assert results.tuned[task.name][method.name].chosen == method.settings()[4]


def test_reported_scores_are_of_the_chosen_settings_on_other_seeds(measured):
    results, runs, _ = measured
    for task in results.tasks:
        np.testing.assert_allclose(results.of_task(task, PPO, "one"), 1 - 0.1 * 5, atol=1e-5)
        np.testing.assert_allclose(results.of_task(task, PPO, "tuned"), 1 - 0.1 * 3, atol=1e-5)
        assert results.scores(PPO, "one").shape == (2, runs.scale.seeds)


def test_no_seed_is_both_tuned_on_and_reported_and_no_tuning_task_is_reported(measured):
    _, runs, trainer = measured
    seeds = {"tuning": set(), "reported": set()}
    for name, sweep in runs.done.items():
        task, *rest = name.split("/")
        assert rest[0] == "tuning" or task not in TUNING_NAMES
        kind = "tuning" if rest[0] == "tuning" else "reported"
        seeds[kind] |= {member.seed for member in sweep.members}
    assert seeds["tuning"] == {TUNING_SEED} and seeds["reported"] == set(range(runs.scale.seeds))
    assert {(find_task(config).name, name_method(config)) for config in trainer.configs} == {
        (task.name, method.name) for task in (*runs.scale.tuning, *runs.scale.reported) for method in METHODS
    }


def test_a_tuning_run_and_a_reported_one_of_two_settings_are_members_of_one_program():
    for scale in (FULL, QUICK):
        assert scale.tuning_seeds * SETTINGS_PER_METHOD == 2 * scale.seeds


def test_the_mean_over_tuning_tasks_decides_and_ties_go_to_the_first(tmp_path, monkeypatch):
    def level(task, method, member):
        return {0: 0.5, 1: 0.9 if task is TUNING[0] else 0.1}.get(place(method, member), 0.0)

    without_training(monkeypatch, level, tmp_path)
    runs = Runs(tmp_path / "w", SMALL)
    tried = [tune(runs, task, HAEPO, random) for task, random in zip(TUNING[:2], (-500.0, 0.0), strict=True)]
    assert tried[0].chosen == HAEPO.settings()[1] and tried[1].chosen == HAEPO.settings()[0]
    one = choose_one(tried)
    np.testing.assert_allclose(one.scores[:3], [0.5, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_a_method_chooses_among_are_numbers_of_one_program(method):
    config = from_config_dict(nest_settings(method.base))
    assert len(method.settings()) == SETTINGS_PER_METHOD
    assert set(method.grid) <= set(traced_settings(config))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_is_a_valid_config_on_every_task_and_its_budget_is_within_reach(method):
    for task in (*REPORTED, *TUNING):
        settings = make_settings(task, method, 1.0)
        config = from_config_dict(nest_settings(settings))
        environment = make_environment(config)
        assert config.max_env_steps == task.budget
        if config.algorithm == "ppo":
            least = config.num_trajectories * config.ppo.num_steps
        else:
            limits = [limit for limit in (environment.max_steps, config.horizon) if limit is not None]
            assert task.shortest <= min(limits)
            least = max(config.num_trajectories * task.shortest, settings.get("min_batch_steps") or 1)
        assert config.num_updates * least >= config.max_env_steps > (config.num_updates - 1) * least


def test_the_first_setting_of_haepo_as_it_was_is_that_of_the_shipped_config():
    from configs import cartpole

    shipped = from_config_dict(cartpole.get_config().to_dict())
    (fixed,) = [method for method in METHODS if method.name == "haepo_fixed"]
    ours = [
        from_config_dict(nest_settings({**make_settings(FROZEN_LAKE, fixed, 1.0), **setting}))
        for setting in fixed.settings()
    ]
    assert any(
        # The reverse projection reads no target.
        (dataclasses.replace(config.haepo, target=shipped.haepo.target), config.optimizer, config.num_trajectories)
        == (shipped.haepo, shipped.optimizer, shipped.num_trajectories)
        for config in ours
    )


def test_a_budget_is_a_share_of_the_tasks():
    assert make_settings(FROZEN_LAKE, PPO, 0.1)["max_env_steps"] == FROZEN_LAKE.budget // 10


def test_the_default_is_among_the_settings_of_haepo():
    values = {name: value for name, value, _ in leaves(ExperimentConfig())}
    assert {name: values[name] for name in HAEPO.grid} in HAEPO.settings()

import dataclasses

import numpy as np
import pytest
from helpers.made_up_runs import SMALL, UPDATES, Trainer

from experiments.studies import runs as study_runs
from experiments.studies.paper.methods import DPO, HAEPO, METHODS, PAPER, PPO
from experiments.studies.paper.scale import FULL
from experiments.studies.paper.tasks import CARTPOLE, WALK, make_bandit, make_deep_sea
from experiments.studies.paper.tuning import TUNING_SEED, make_settings, run_reported, transfer, tune
from experiments.studies.runs import Runs
from haepo_jax.config import sweep_points

GAUSSIAN = make_bandit("GaussianBandit-haepo", 3)
SEEDS = dataclasses.replace(SMALL, tuning_seeds=3)
BEST = {"optimizer.learning_rate": 1e-2, "dpo.beta": 0.1}


def settings_of(member):
    return {name: value for name, value in member.settings.items() if not name.startswith("env_params.")}


def distance(member):
    """How far a member's settings are from the best ones."""
    return sum(abs(np.log(value / BEST[name])) for name, value in settings_of(member).items())


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Makes training give what `learn(config, member)` says; returns the runs."""

    def made_up(learn, scale=SEEDS):
        trainer = Trainer(learn, tmp_path)
        monkeypatch.setattr(study_runs, "run_sweep", trainer)
        runs = Runs(tmp_path / "all", scale)
        runs.trainer = trainer
        return runs

    return made_up


@pytest.mark.parametrize("task", [CARTPOLE, GAUSSIAN, make_deep_sea(4)])
def test_the_setting_with_the_best_mean_curve_is_chosen(train, task):
    def learn(config, member):
        noise = np.random.default_rng(member.index).normal(size=UPDATES)
        return -task.better * distance(member) + 0.01 * noise

    tuned = tune(train(learn), task, DPO)
    assert tuned.chosen == BEST
    assert len(tuned.tried) == 8
    assert tuned.score == dict((tuple(s.items()), v) for s, v in tuned.tried)[tuple(tuned.chosen.items())]
    assert tuned.score * task.better == max(score * task.better for _, score in tuned.tried)
    assert {**tuned.settings, **BEST} == tuned.settings
    assert tuned.settings["max_env_steps"] == round(task.budget * SEEDS.budget)


def test_a_score_is_the_mean_of_the_curve_over_points_and_seeds(train):
    task = dataclasses.replace(CARTPOLE, window=0.0)
    values = np.arange(UPDATES) ** 2.0

    runs = train(lambda config, member: values * member.settings["dpo.beta"] + member.seed - TUNING_SEED)
    tuned = tune(runs, task, DPO)
    budget = round(CARTPOLE.budget * SEEDS.budget)
    grid = budget * np.arange(1, 101) / 100
    ends = np.arange(1, UPDATES + 1) * budget // UPDATES
    newest = np.clip((ends[None] <= grid[:, None]).sum(axis=1) - 1, 0, None)
    assert len(tuned.tried) > 1
    for settings, score in tuned.tried:
        assert score == pytest.approx(values[newest].mean() * settings["dpo.beta"] + 1.0, rel=1e-5)


def test_early_success_counts_as_the_whole_curve_is_scored(train):
    def learn(config, member):
        quick = member.settings["dpo.beta"] == 0.3 and member.settings["optimizer.learning_rate"] == 3e-3
        return np.minimum(np.arange(UPDATES) * (5.0 if quick else 1.0), 10.0)

    assert tune(train(learn), CARTPOLE, DPO).chosen == {"optimizer.learning_rate": 3e-3, "dpo.beta": 0.3}


def test_a_setting_that_diverges_gets_the_failure(train):
    def learn(config, member):
        dies = member.settings["dpo.beta"] != 0.1
        return np.full(2 if dies else UPDATES, 30.0 if dies else 10.0)

    tuned = tune(train(learn), CARTPOLE, DPO)
    assert tuned.chosen["dpo.beta"] == 0.1 and tuned.score == pytest.approx(10.0)
    worse = {score for settings, score in tuned.tried if settings["dpo.beta"] != 0.1}
    assert max(worse) < 10.0


def test_bandits_are_averaged_within_a_setting(train):
    """One that is best on one bandit but bad on another is not taken."""

    def learn(config, member):
        special = member.settings["dpo.beta"] == 1.0
        regret = (0.0 if member.settings["env_params.instance"] == 1000 else 3.0) if special else distance(member)
        return np.full(UPDATES, regret)

    extra = {"sweep.env_params.instance": (1000, 1001), "num_seeds": 2}
    runs = train(learn)
    tuned = tune(runs, GAUSSIAN, DPO, extra=extra)
    assert tuned.chosen == BEST and tuned.score == 0.0
    assert len(tuned.tried) == 8 and "env_params.instance" not in tuned.chosen
    assert {score for settings, score in tuned.tried if settings["dpo.beta"] == 1.0} == {1.5}
    (config,) = runs.trainer.configs
    assert config.num_seeds == 2 and config.sweep["env_params.instance"] == (1000, 1001)
    assert "sweep.env_params.instance" not in tuned.settings


def test_without_tuning_seeds_the_first_setting_is_taken(train):
    runs = train(lambda config, member: np.zeros(UPDATES), dataclasses.replace(SMALL, tuning_seeds=0))
    tuned = tune(runs, CARTPOLE, PPO)
    assert runs.trainer.configs == [] and runs.done == {}
    assert tuned.chosen == {"optimizer.learning_rate": 1e-3, "ppo.gae_lambda": 0.8, "ppo.entropy_coef": 0.0}
    assert tuned.tried == () and np.isnan(tuned.score)
    run_reported(runs, tuned)
    (config,) = runs.trainer.configs
    assert config.optimizer.learning_rate == 1e-3 and config.ppo.gae_lambda == 0.8


@pytest.mark.parametrize("task", [CARTPOLE, WALK, GAUSSIAN, make_deep_sea(4)])
def test_every_method_is_tried_with_as_many_members_of_seeds_kept_apart(train, task):
    runs = train(lambda config, member: np.full(UPDATES, 0.5))
    plain = [method for method in METHODS if len(method.cases) == 1]
    for method in plain:
        tuned = tune(runs, task, method)
        run_reported(runs, tuned)
    tuning, final = runs.trainer.configs[::2], runs.trainer.configs[1::2]
    assert set(runs.done) == {f"{task.name}{part}/{m.name}" for part in ("/tuning", "") for m in plain}
    for config, method in zip(tuning, plain, strict=True):
        assert (config.seed, config.num_seeds) == (TUNING_SEED, SEEDS.tuning_seeds)
        assert dict(config.sweep) == dict(method.grid)
    for config in final:
        assert (config.seed, config.num_seeds) == (0, SEEDS.seeds) and not config.sweep


def test_the_papers_form_is_tried_in_a_run_for_each_beta_with_as_many_members(train):
    best = {"haepo.entropy_coef": 5e-3, "haepo.kl_coef": 5e-3, "haepo.temperature": 4.0}

    def learn(config, member):
        return np.full(UPDATES, float(sum(member.settings.get(name) == value for name, value in best.items())))

    runs = train(learn)
    tuned = tune(runs, CARTPOLE, PAPER)
    assert tuned.chosen == {"optimizer.learning_rate": 3e-3, **best} and len(tuned.tried) == 48
    assert {**tuned.settings, **tuned.chosen} == tuned.settings
    assert list(runs.done) == [f"cartpole/tuning/haepo_paper_{number}" for number in (1, 2, 3, 4)]
    for config, beta in zip(runs.trainer.configs, (5e-5, 5e-4, 5e-3, 1e-2), strict=True):
        assert (config.seed, config.num_seeds) == (TUNING_SEED, SEEDS.tuning_seeds)
        assert config.sweep["haepo.entropy_coef"] == (beta,) and config.sweep["haepo.kl_coef"] == (beta, 0.0)
        assert len(list(sweep_points(config))) == 12
    run_reported(runs, tuned)
    haepo = runs.trainer.configs[-1].haepo
    assert (haepo.entropy_coef, haepo.kl_coef, haepo.normalization, haepo.num_epochs) == (5e-3, 5e-3, "sum", 1)


def test_tuning_seeds_lie_beyond_the_reported_ones_in_full():
    assert FULL.seeds >= 64 and FULL.instances * FULL.instance_seeds >= 256
    assert max(FULL.seeds, FULL.instance_seeds) <= TUNING_SEED


def test_reported_runs_have_the_chosen_settings_and_their_changes(train):
    runs = train(lambda config, member: np.full(UPDATES, float(member.settings.get("haepo.temperature", 0.0))))
    tuned = tune(runs, CARTPOLE, HAEPO["sum"])
    assert tuned.chosen["haepo.temperature"] == 4.0
    run = run_reported(runs, tuned, "variant", num_updates=7, **{"haepo.kl_coef": 0.5})
    assert run.path == runs.directory / "runs" / "cartpole" / "variant"
    config = runs.done["cartpole/variant"].groups[0].config
    assert (config.num_updates, config.haepo.kl_coef, config.haepo.temperature) == (7, 0.5, 4.0)
    assert config.haepo.score == "sum"
    assert run_reported(runs, tuned).path.name == "haepo_sum"


def test_a_choice_is_taken_to_another_task(train):
    runs = train(lambda config, member: np.full(UPDATES, distance(member)))
    tuned = tune(runs, GAUSSIAN, DPO)
    other = make_bandit("BernoulliBandit-haepo", 4)
    moved = transfer(runs, tuned, other)
    assert moved.chosen == tuned.chosen == BEST and moved.task == other
    assert moved.settings == {**make_settings(runs, other, DPO), **BEST}
    assert moved.settings["env"] == "BernoulliBandit-haepo" and moved.settings["env_kwargs.num_arms"] == 4

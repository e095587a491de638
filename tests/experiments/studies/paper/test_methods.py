import dataclasses

import pytest

from experiments.studies.methods import Method, nest_settings
from experiments.studies.paper import bandits, cartpole
from experiments.studies.paper.methods import HAEPO, METHODS, PPO, SETTINGS_PER_METHOD
from experiments.studies.paper.scale import FULL, QUICK
from experiments.studies.paper.tasks import CARTPOLE, WALK, make_bandit, make_deep_sea
from experiments.studies.paper.tuning import make_settings
from experiments.studies.runs import Runs
from haepo_jax.config import from_config_dict, sweep_points, traced_settings
from haepo_jax.population.member import make_environment

EVERY_METHOD = {method.name: method for method in (*METHODS, *cartpole.METHODS, *bandits.METHODS)}
SCALES = {"full": FULL, "quick": QUICK}


def tasks_of(scale):
    """Every task with its methods."""
    games = [make_bandit(bandits.GAUSSIAN, arms) for arms in scale.arms] + [
        make_bandit(bandits.BERNOULLI, scale.arms[0])
    ]
    pairs = [(game, bandits.METHODS) for game in games]
    pairs += [(make_deep_sea(size), METHODS) for size in scale.deep_seas]
    return [*pairs, (CARTPOLE, cartpole.METHODS), (WALK, METHODS)]


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_every_method_has_the_same_number_of_settings(name):
    grid = EVERY_METHOD[name].grid
    config = from_config_dict(
        nest_settings({**EVERY_METHOD[name].base, **{f"sweep.{key}": grid[key] for key in grid}})
    )
    points = list(sweep_points(config))
    assert len(points) == SETTINGS_PER_METHOD
    assert len({tuple(point.values()) for point in points}) == SETTINGS_PER_METHOD


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_tuned_settings_are_traced_and_the_methods_own(name):
    method = EVERY_METHOD[name]
    config = from_config_dict(nest_settings(method.base))
    assert set(method.grid) <= set(traced_settings(config))
    assert {key.partition(".")[0] for key in method.grid} <= {"optimizer", config.algorithm}
    assert not set(method.grid) & set(method.base)
    assert "optimizer.learning_rate" in method.grid


@pytest.mark.parametrize(
    ("grid", "count"), [({}, 1), ({"discount": (0.9, 1.0)}, 2), ({"discount": (1.0,) * 3, "dpo.beta": (1.0,) * 3}, 9)]
)
def test_another_number_of_settings_is_refused(grid, count):
    with pytest.raises(ValueError, match=f"^mine has {count} settings to choose from, not 8.$"):
        Method("mine", "Mine", {}, grid, SETTINGS_PER_METHOD)
    with pytest.raises(ValueError, match="ppo has"):
        dataclasses.replace(PPO, grid=grid)


@pytest.mark.parametrize("scope", [METHODS, cartpole.METHODS, bandits.METHODS])
def test_names_and_labels_are_unique(scope):
    assert len({method.name for method in scope}) == len({method.label for method in scope}) == len(scope)


def test_a_name_stands_for_one_method_in_all_studies():
    for method in (*METHODS, *cartpole.METHODS, *bandits.METHODS):
        assert EVERY_METHOD[method.name] == method


def test_the_bandits_play_every_score_with_both_normalisations():
    played = {
        (config.haepo.score, config.haepo.normalization)
        for method in bandits.METHODS
        for config in [from_config_dict(nest_settings(method.base))]
        if config.algorithm == "haepo"
    }
    assert played == {(score, normalization) for score in HAEPO for normalization in ("zscore", "sum")}
    paper = from_config_dict(nest_settings(bandits.PAPER.base)).haepo
    assert (paper.score, paper.normalization) == ("sum", "sum")


@pytest.mark.parametrize("scale", SCALES)
def test_every_method_on_every_task_is_a_valid_config(scale, tmp_path):
    runs = Runs(tmp_path, SCALES[scale])
    for task, methods in tasks_of(runs.scale):
        for method in methods:
            settings = {**make_settings(runs, task, method), "num_seeds": runs.scale.seeds}
            plain = from_config_dict(nest_settings(settings))
            swept = from_config_dict(
                nest_settings(settings | {f"sweep.{name}": method.grid[name] for name in method.grid})
            )
            assert plain.algorithm == from_config_dict(nest_settings(method.base)).algorithm
            assert plain.max_env_steps == swept.max_env_steps == round(task.budget * runs.scale.budget)
            make_environment(swept)
            if "Bandit" in plain.env:
                make_environment(from_config_dict(nest_settings(settings | {"sweep.env_params.instance": (0, 1)})))


@pytest.mark.parametrize("scale", SCALES)
def test_the_budget_is_within_reach(scale, tmp_path):
    """PPO does as many updates as its budget has; others may need fewer steps, and stop at their last update."""
    runs = Runs(tmp_path, SCALES[scale])
    for task, methods in tasks_of(runs.scale):
        for method in methods:
            config = from_config_dict(nest_settings(make_settings(runs, task, method)))
            longest = make_environment(config).max_steps
            steps = config.ppo.num_steps if config.algorithm == "ppo" else longest
            most = config.num_updates * config.num_trajectories * steps
            assert most >= config.max_env_steps
            if config.algorithm == "ppo":
                assert most - config.num_trajectories * steps < config.max_env_steps


@pytest.mark.parametrize("scale", SCALES)
def test_all_share_the_network_the_optimiser_and_m(scale, tmp_path):
    runs = Runs(tmp_path, SCALES[scale])
    for task, methods in tasks_of(runs.scale):
        configs = [from_config_dict(nest_settings(make_settings(runs, task, method))) for method in methods]
        assert all(config.policy == configs[0].policy for config in configs)
        assert len({(config.optimizer.schedule, config.optimizer.max_grad_norm) for config in configs}) == 1
        together = 64 if "bandit" in task.name else 16
        assert {config.num_trajectories for config in configs if config.algorithm != "ppo"} == {together}
        assert len({config.max_env_steps for config in configs}) == 1
        assert len({config.env for config in configs}) == 1

import dataclasses

import pytest

from experiments.studies.methods import Method, nest_settings
from experiments.studies.paper import bandits, cartpole, deep_sea
from experiments.studies.paper.methods import (
    HAEPO,
    METHODS,
    PAPER,
    PAPER_ZSCORED,
    PPO,
    SETTINGS_OF_PAPER,
    SETTINGS_PER_METHOD,
)
from experiments.studies.paper.scale import FULL, QUICK
from experiments.studies.paper.tasks import CARTPOLE, WALK, make_bandit, make_deep_sea
from experiments.studies.paper.tuning import make_settings
from experiments.studies.runs import Runs
from haepo_jax.config import from_config_dict, sweep_points, traced_settings
from haepo_jax.population.member import make_environment

EVERY_METHOD = {method.name: method for method in (*METHODS, *cartpole.METHODS, *bandits.METHODS, *deep_sea.METHODS)}
SCALES = {"full": FULL, "quick": QUICK}


def tasks_of(scale):
    """Every task with its methods."""
    games = [make_bandit(bandits.GAUSSIAN, arms) for arms in scale.arms] + [
        make_bandit(bandits.BERNOULLI, scale.arms[0])
    ]
    pairs = [(game, bandits.METHODS) for game in games]
    pairs += [(make_deep_sea(size), deep_sea.METHODS) for size in scale.deep_seas]
    return [*pairs, (CARTPOLE, cartpole.METHODS), (WALK, METHODS)]


def points_of(method):
    """Every setting that a tuning run of the method would try."""
    points = []
    for grid in method.grids():
        settings = {**method.base, **{f"sweep.{key}": values for key, values in grid.items()}}
        points += sweep_points(from_config_dict(nest_settings(settings)))
    return points


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_every_method_has_the_same_number_of_settings_but_the_papers_form_has_six_times_as_many(name):
    points = points_of(EVERY_METHOD[name])
    number = SETTINGS_OF_PAPER if EVERY_METHOD[name] in (PAPER, PAPER_ZSCORED) else SETTINGS_PER_METHOD
    assert len(points) == len({tuple(point.values()) for point in points}) == number
    assert points == EVERY_METHOD[name].settings()
    assert (SETTINGS_PER_METHOD, SETTINGS_OF_PAPER) == (8, 48)


def test_no_default_decides_what_form_of_haepo_is_compared():
    stated = {"adapt", "projection", "reference", "score", "normalization", "num_epochs", "kl_coef", "entropy_coef"}
    for method in EVERY_METHOD.values():
        if method.base["algorithm"] == "haepo":
            (names, *others) = ({*method.base, *grid} for grid in method.grids())
            assert all(other == names for other in others)
            assert {f"haepo.{name}" for name in stated} <= names
            haepo = from_config_dict(nest_settings(method.base)).haepo
            assert (haepo.adapt, haepo.projection) == ("fixed", "reverse")


@pytest.mark.parametrize(("method", "normalization"), [(PAPER, "sum"), (PAPER_ZSCORED, "zscore")])
def test_the_papers_form_has_its_score_its_range_and_one_step_a_batch(method, normalization):
    haepo = from_config_dict(nest_settings(method.base)).haepo
    assert (haepo.score, haepo.normalization, haepo.num_epochs) == ("sum", normalization, 1)
    names = ("haepo.entropy_coef", "haepo.kl_coef", "haepo.temperature")
    tried = {tuple(point[name] for name in names) for point in points_of(method)}
    pairs = [(beta, share * beta) for beta in (5e-5, 5e-4, 5e-3, 1e-2) for share in (0, 1)]
    assert tried == {(*pair, temperature) for pair in pairs for temperature in (1.0, 4.0)}
    assert len(tried) == 16


def test_claims_are_judged_by_the_papers_form_on_every_task_where_returns_have_a_positive_sum():
    assert {PAPER.name} == {m.name for m in (cartpole.PAPER, bandits.PAPER)} and PAPER in METHODS
    assert deep_sea.PAPER is PAPER_ZSCORED and PAPER not in deep_sea.METHODS


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_tuned_settings_are_traced_and_the_methods_own(name):
    method = EVERY_METHOD[name]
    config = from_config_dict(nest_settings(method.base))
    for grid in method.grids():
        assert set(grid) <= set(traced_settings(config))
        assert {key.partition(".")[0] for key in grid} <= {"optimizer", config.algorithm}
        assert not set(grid) & set(method.base)
        assert "optimizer.learning_rate" in grid


@pytest.mark.parametrize(
    ("grid", "count"), [({}, 1), ({"discount": (0.9, 1.0)}, 2), ({"discount": (1.0,) * 3, "dpo.beta": (1.0,) * 3}, 9)]
)
def test_another_number_of_settings_is_refused(grid, count):
    with pytest.raises(ValueError, match=f"^mine has {count} settings to choose from, not 8.$"):
        Method("mine", "Mine", {}, grid, SETTINGS_PER_METHOD)
    with pytest.raises(ValueError, match="ppo has"):
        dataclasses.replace(PPO, grid=grid)


def test_a_method_that_learns_slowly_has_more_updates_for_its_environment_steps(tmp_path):
    runs = Runs(tmp_path, FULL)
    assert make_settings(runs, CARTPOLE, PAPER)["num_updates"] == 2 * CARTPOLE.max_updates
    assert make_settings(runs, CARTPOLE, HAEPO["sum"])["num_updates"] == CARTPOLE.max_updates


@pytest.mark.parametrize("scope", [METHODS, cartpole.METHODS, bandits.METHODS, deep_sea.METHODS])
def test_names_and_labels_are_unique(scope):
    assert len({method.name for method in scope}) == len({method.label for method in scope}) == len(scope)


def test_a_name_stands_for_one_method_in_all_studies():
    for method in (*METHODS, *cartpole.METHODS, *bandits.METHODS, *deep_sea.METHODS):
        assert EVERY_METHOD[method.name] == method


def test_the_bandits_play_both_scores_that_differ_there_with_both_normalisations():
    played = {
        (config.haepo.score, config.haepo.normalization)
        for method in bandits.METHODS
        for config in [from_config_dict(nest_settings(method.base))]
        if config.algorithm == "haepo" and method != PAPER
    }
    scores = HAEPO.keys() - {"mean"}
    assert played == {(score, normalization) for score in scores for normalization in ("zscore", "sum")}


@pytest.mark.parametrize("scale", SCALES)
def test_every_method_on_every_task_is_a_valid_config(scale, tmp_path):
    runs = Runs(tmp_path, SCALES[scale])
    for task, methods in tasks_of(runs.scale):
        for method in methods:
            settings = {**make_settings(runs, task, method), "num_seeds": runs.scale.seeds}
            plain = from_config_dict(nest_settings(settings))
            assert plain.algorithm == from_config_dict(nest_settings(method.base)).algorithm
            for grid in method.grids():
                swept = from_config_dict(nest_settings(settings | {f"sweep.{name}": grid[name] for name in grid}))
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

"""The whole algorithm in one file learns as the package does."""

import ast
import contextlib
import dataclasses
import io
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers.settings import fixed_config

from configs import cartpole
from haepo_jax.population import make_population

EXAMPLE = Path(__file__).parents[2] / "examples" / "single_file_haepo.py"
SEEDS = (0, 1)
SMALL = {
    "num_updates": 3,
    "num_trajectories": 4,
    "horizon": 50,
    "policy.hidden_sizes": (16,),
    "haepo.kl_coef": 0.5,  # large, so that a few updates show what the reference does
}


@pytest.fixture(scope="module")
def example():
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


@pytest.fixture(scope="module")
def printed_and_trained(example):
    """What the example prints, and the parameters and metrics of its seeds."""
    config = example.Config(**{name.rpartition(".")[2]: value for name, value in SMALL.items()})
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        trained = example.main(config, num_seeds=len(SEEDS))
    return printed.getvalue(), trained


@pytest.fixture(scope="module")
def trained_by_the_package():
    config = cartpole.get_config()
    config.update_from_flattened_dict(SMALL)
    config.num_seeds = len(SEEDS)
    config.memory = "store"  # the quickest to compile
    return make_population(fixed_config(config)).run([{}], SEEDS)


@pytest.mark.parametrize("metric", ["episode_return", "loss", "effective_sample_size"])
def test_each_metric_is_the_packages(metric, printed_and_trained, trained_by_the_package):
    _, (_, metrics) = printed_and_trained
    np.testing.assert_allclose(metrics[metric], trained_by_the_package[metric][0], rtol=1e-5)


def test_the_trained_parameters_are_the_packages(printed_and_trained, trained_by_the_package):
    _, (params, _) = printed_and_trained
    theirs = jax.tree.map(lambda leaf: leaf[0], trained_by_the_package.params)
    jax.tree.map(lambda ours, same: np.testing.assert_allclose(ours, same, atol=1e-5), params["params"], theirs)


def test_the_table_has_a_row_for_each_update_of_a_short_run(printed_and_trained):
    printed, (_, metrics) = printed_and_trained
    rows = [[float(number) for number in line.split()] for line in printed.splitlines()[1:]]
    assert [row[0] for row in rows] == [1, 2, 3]
    np.testing.assert_allclose([row[1] for row in rows], metrics["episode_return"].mean(axis=0), atol=0.06)
    np.testing.assert_allclose([row[2] for row in rows], metrics["episode_return"].min(axis=0), atol=0.06)


def test_its_settings_are_those_of_the_config_file(example):
    config = cartpole.get_config().to_dict()
    known = config | config["policy"] | config["optimizer"] | config["haepo"]
    own = dataclasses.asdict(example.Config())
    assert own.pop("horizon") == 500  # the environment's own, which the config leaves to it
    assert own == {name: known[name] for name in own}


def test_the_single_file_needs_the_losses_alone_and_has_at_most_150_lines():
    text = EXAMPLE.read_text()
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert {name for name in imported if name.startswith(("haepo_jax", "experiments"))} == {"haepo_jax"}
    assert len(text.splitlines()) <= 150

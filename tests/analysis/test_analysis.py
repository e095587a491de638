import json

import numpy as np
import pytest
from rich.console import Console
from sweep_report.made_up_sweeps import ATTEMPT

from haepo_jax.analysis import figures, tables
from haepo_jax.analysis.metrics import by_setting, read_metric
from haepo_jax.analysis.statistics import bootstrap_band, seed_mean
from haepo_jax.analysis.summary import summarize
from haepo_jax.config import from_config_dict, to_json
from haepo_jax.population import make_members
from haepo_jax.recording import MetricsWriter
from haepo_jax.run_folder import write_json


@pytest.fixture
def workdir(tmp_path):
    """Two settings x two seeds x 30 updates in two parts; the last member dies at update 20."""
    config = from_config_dict({"num_seeds": 2, "sweep": {"haepo.kl_coef": (0.0, 0.5)}, "num_updates": 30})
    members = make_members(config)
    returns = np.arange(30.0)[:, None] + 100.0 * np.arange(4)
    returns[21:, 3] = np.nan
    write_json(tmp_path / "config.json", to_json(config))
    write_json(tmp_path / "members.json", [vars(member) for member in members])
    writer = MetricsWriter(tmp_path / "metrics", members, metrics={"episode_return": np.float32})
    steps = np.cumsum(np.ones((30, 4), np.int64), axis=0)
    diverged = np.zeros((30, 4), bool)
    diverged[20, 3] = True
    for rows in (slice(0, 12), slice(12, 30)):
        metrics = {"episode_return": returns[rows].astype(np.float32)}
        writer.write(rows.start, metrics, steps[rows], where=~np.isnan(returns[rows]), diverged=diverged[rows])
    seconds = ((1.0, 4.0), (2.0, 2.0), (0.0, 0.0))
    attempts = [ATTEMPT | {"compile_seconds": compiling, "run_seconds": running} for compiling, running in seconds]
    write_json(tmp_path / "provenance.json", attempts)
    return tmp_path


@pytest.fixture
def summary(workdir):
    return summarize(workdir)


def test_a_metric_is_read_by_member_and_update(workdir):
    returns = read_metric(workdir, "episode_return")
    assert returns.shape == (4, 30)
    np.testing.assert_array_equal(returns[2], 200 + np.arange(30))
    assert np.isnan(returns[3, 21:]).all() and not np.isnan(returns[3, :21]).any()


def test_steps_stand_still_once_a_member_has_stopped(workdir):
    assert read_metric(workdir, "env_steps")[3].tolist() == [*range(1, 22), *[21] * 9]


def test_an_unknown_metric_is_told_with_those_there_are(workdir):
    with pytest.raises(KeyError, match="has no metric loss; it has member, seed"):
        read_metric(workdir, "loss")


def test_members_are_grouped_by_their_settings(workdir):
    members = json.loads((workdir / "members.json").read_text())
    assert by_setting(members) == {"haepo.kl_coef=0": [0, 1], "haepo.kl_coef=0.5": [2, 3]}


def test_the_final_return_is_the_mean_of_the_last_ten_updates(summary):
    assert [member["final_return"] for member in summary["members"]] == [24.5, 124.5, 224.5, None]


def test_the_best_return_is_the_largest_of_an_update(summary):
    assert [member["best_return"] for member in summary["members"]] == [29.0, 129.0, 229.0, 320.0]


def test_a_diverged_member_is_named_with_its_update(summary):
    assert [member["status"] for member in summary["members"]] == ["ok", "ok", "ok", "diverged"]
    assert [member["death_update"] for member in summary["members"]] == [None, None, None, 20]


def test_steps_and_time_are_summed(summary):
    assert summary["env_steps"] == 3 * 30 + 21
    assert summary["env_steps_per_second"] == 18.5
    assert summary["wall_clock"] == {"compile_seconds": 3.0, "run_seconds": 6.0}


def test_the_summary_is_json(summary):
    json.dumps(summary, allow_nan=False)


def test_the_table_has_a_line_for_each_setting(summary):
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables.final_returns(summary, "title"))
    text = console.export_text()
    console.file.close()
    zero, half = (next(line for line in text.splitlines() if label in line) for label in ("kl_coef=0 ", "kl_coef=0.5"))
    assert zero.split("│")[2:8] == ["     2 ", *(f"{cell:>{len(raw)}}" for cell, raw in _cells(zero))]
    assert "224.5" in half and half.rstrip(" │").endswith("1")


def _cells(line):
    """The number cells of a table line as they should read, with the raw cell for its width."""
    raw = line.split("│")[3:8]
    return zip((f"{value} " for value in ("74.5", "50", "24.5", "124.5", "0")), raw, strict=True)


def test_the_figure_is_drawn_even_where_all_of_a_setting_died(workdir):
    path = figures.learning_curve(workdir)
    assert path == workdir / "learning_curve.png"
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_mean_leaves_the_diverged_out():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(seed_mean(values), [2.0, 5.0, np.nan])


@pytest.mark.parametrize(("seeds", "bands"), [(1, 0), (4, 0), (5, 1)])
def test_a_learning_curve_has_a_band_from_five_seeds_on(seeds, bands):
    returns = np.random.default_rng(0).normal(size=(seeds, 6))
    hostile = from_config_dict({"num_seeds": seeds})
    drawn = figures._draw(hostile, {"$\\frac{x$ \x1b[2J": returns}, np.arange(1, 7))
    (axes,) = drawn.axes
    assert len(axes.collections) == bands
    assert axes.get_legend_handles_labels()[1] == ["$\\frac{x$ \\x1b[2J"]
    (alone,) = figures._draw(hostile, {"": returns}, np.arange(1, 7)).axes
    assert ("band" in alone.get_legend_handles_labels()[1][0]) == bool(bands)


def test_the_band_holds_the_mean_and_narrows_with_seeds():
    samples = np.random.default_rng(1).normal(size=(400, 5))
    few, many = bootstrap_band(samples[:16]), bootstrap_band(samples)
    for low, high in (few, many):
        assert (low < high).all()
    assert (few[1] - few[0] > 2 * (many[1] - many[0])).all()
    assert (many[0] < samples.mean(0)).all() and (samples.mean(0) < many[1]).all()


def test_the_band_has_its_nominal_width():
    samples = np.random.default_rng(2).normal(size=(1000, 1))
    low, high = bootstrap_band(samples)
    np.testing.assert_allclose(high - low, 2 * 1.96 / np.sqrt(1000), rtol=0.1)


def test_the_band_of_one_seed_is_the_seed():
    values = np.array([[1.0, 2.0]])
    low, high = bootstrap_band(values)
    np.testing.assert_array_equal(low, values[0])
    np.testing.assert_array_equal(high, values[0])

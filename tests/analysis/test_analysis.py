import io
import json
import shutil
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.made_up_sweeps import ATTEMPT
from helpers.settings import fixed_config
from rich.console import Console

from haepo_jax.analysis import tables
from haepo_jax.analysis.statistics import bootstrap_band, seed_mean
from haepo_jax.config import to_json
from haepo_jax.config.members import make_members
from haepo_jax.reports import figures, learning_curve
from haepo_jax.runs.folder import write_json
from haepo_jax.runs.json_files import format_json
from haepo_jax.runs.metrics.reader import group_by_setting, read_metric
from haepo_jax.runs.metrics.writer import MetricsWriter
from haepo_jax.runs.summary import summarize


@pytest.fixture
def workdir(tmp_path):
    """Two settings x two seeds x 30 updates in two parts; the last member dies at update 20."""
    config = fixed_config({"num_seeds": 2, "sweep": {"haepo.kl_coef": (0.0, 0.5)}, "num_updates": 30})
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


def test_folders_above_that_look_like_columns_are_none(workdir, tmp_path):
    moved = tmp_path / "seed=0" / "member=7"
    shutil.copytree(workdir, moved, ignore=shutil.ignore_patterns("seed=0"))
    np.testing.assert_array_equal(read_metric(moved, "episode_return"), read_metric(workdir, "episode_return"))
    assert summarize(moved) == summarize(workdir)


def test_a_folder_may_be_given_as_text(workdir):
    assert summarize(str(workdir)) == summarize(workdir)
    assert learning_curve.draw_learning_curve(str(workdir)) == workdir / "learning_curve.png"


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_returns_that_are_not_finite_leave_the_other_rows_whole(workdir, value):
    part = sorted((workdir / "metrics").iterdir())[1]
    table = pq.read_table(part)
    returns = np.where(table["member"].to_numpy() == 1, np.float32(value), table["episode_return"].to_numpy())
    pq.write_table(table.set_column(table.schema.get_field_index("episode_return"), "episode_return", [returns]), part)
    summary = json.loads(format_json(summarize(workdir)))
    assert [member["status"] for member in summary["members"]] == ["ok", "ok", "ok", "diverged"]
    finals = [member["final_return"] for member in summary["members"]]
    assert finals[::2] == [24.5, 224.5] and finals[3] is None
    if value == 3e38:
        assert finals[1] == summary["members"][1]["best_return"] == float(np.float32(3e38))
    else:  # the second part holds all of the last ten updates
        expected = None if np.isinf(value) else 106.5
        assert finals[1] == expected and summary["members"][1]["best_return"] == 111.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learning_curve.draw_learning_curve(workdir)
        printed(tables.make_returns_table(summary, "title"))


def test_a_run_in_which_no_episode_ended_has_null_and_is_ok(workdir):
    for part in (workdir / "metrics").iterdir():
        table = pq.read_table(part)
        nothing = np.full(table.num_rows, np.nan, np.float32)
        at = table.schema.get_field_index("episode_return")
        pq.write_table(table.set_column(at, "episode_return", [nothing]), part)
    summary = json.loads(format_json(summarize(workdir)))
    assert [(m["final_return"], m["best_return"]) for m in summary["members"]] == [(None, None)] * 4
    assert [m["status"] for m in summary["members"]] == ["ok", "ok", "ok", "diverged"]
    learning_curve.draw_learning_curve(workdir)
    assert cells(printed(tables.make_returns_table(summary, "title")))[0] == [
        "kl_coef=0",
        "2",
        "-",
        "-",
        "-",
        "-",
        "0",
    ]


def test_a_run_whose_time_is_not_known_has_no_rate(workdir):
    write_json(workdir / "provenance.json", [ATTEMPT | {"run_seconds": 0.0}])
    summary = summarize(workdir)
    assert summary["env_steps_per_second"] is None
    assert "111 env steps in 0.0 s; compiled" in tables.describe_speed(summary)


def test_an_unknown_metric_is_refused_with_the_known_ones_named(workdir):
    with pytest.raises(KeyError, match="has no metric loss; it has member, seed"):
        read_metric(workdir, "loss")


def test_members_are_grouped_by_their_settings(workdir):
    members = json.loads((workdir / "members.json").read_text())
    assert group_by_setting(members) == {"haepo.kl_coef=0": [0, 1], "haepo.kl_coef=0.5": [2, 3]}


def test_the_final_return_is_the_mean_of_the_last_ten_updates(summary):
    assert [member["final_return"] for member in summary["members"]] == [24.5, 124.5, 224.5, None]


def test_the_best_return_is_the_largest_of_an_update(summary):
    assert [member["best_return"] for member in summary["members"]] == [29.0, 129.0, 229.0, 320.0]


def test_a_diverged_member_is_named_with_its_update(summary):
    assert [member["status"] for member in summary["members"]] == ["ok", "ok", "ok", "diverged"]
    assert [member["diverged_at"] for member in summary["members"]] == [None, None, None, 20]


def test_steps_and_time_are_summed(summary):
    assert summary["env_steps"] == 3 * 30 + 21
    assert summary["env_steps_per_second"] == 18.5
    assert summary["wall_clock"] == {"compile_seconds": 3.0, "run_seconds": 6.0}


def test_the_summary_is_json(summary):
    json.dumps(summary, allow_nan=False)


def printed(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def cells(text):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_the_table_has_a_line_for_each_setting_the_best_first(summary):
    assert cells(printed(tables.make_returns_table(summary, "title"))) == [
        ["kl_coef=0.5", "2", "224.5", "0", "224.5", "224.5", "1"],
        ["kl_coef=0", "2", "74.5", "50", "24.5", "124.5", "0"],
    ]


def point(index, value, **settings):
    settings = {name.replace("__", "."): setting for name, setting in settings.items()}
    return {"member": index, "settings": settings, "update": 3, "greedy_return": value, "sampled_return": value}


def evaluated(*members):
    return {"env": "Catch-bsuite", "update": 3, "checkpoint": "last", "episodes": 100, "members": list(members)}


def test_rows_of_an_evaluation_differ_in_80_columns_and_the_best_comes_first():
    rates = np.geomspace(1e-5, 1e-1, 12)
    members = [
        point(
            k, float(k % 7), optimizer__learning_rate=float(rate), haepo__entropy_coef=0.00123456, haepo__kl_coef=0.1
        )
        for k, rate in enumerate(rates)
    ]
    text = printed(tables.make_evaluation_table(evaluated(*members)))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text and "haepo." not in text
    for rate in rates:
        assert f"learning_rate={rate:g}" in text
    means = [float(row[3]) for row in cells(text) if row[3]]
    assert means == sorted(means, reverse=True) and len(means) == 24


def test_the_table_names_the_updates_of_all_its_policies():
    early = point(0, 1.0) | {"update": 2}
    assert "Catch-bsuite after update 2," in printed(tables.make_evaluation_table(evaluated(early)))
    assert "Catch-bsuite after updates 2 to 3," in printed(
        tables.make_evaluation_table(evaluated(point(1, 0.0), early))
    )


def test_settings_that_share_their_last_part_keep_their_whole_names():
    text = printed(tables.make_evaluation_table(evaluated(point(0, 1.0, haepo__num_epochs=1, ppo__num_epochs=2))), 120)
    assert "haepo.num_epochs=1, ppo.num_epochs=2" in text


def test_settings_that_differ_in_their_last_digits_are_two():
    members = [point(0, 1.0, discount=0.99999991), point(1, 2.0, discount=0.99999992)]
    assert group_by_setting(members) == {"discount=0.99999991": [0], "discount=0.99999992": [1]}


def test_a_member_without_a_number_is_left_out_and_comes_last():
    members = [point(0, None, discount=0.5), point(1, 2.0, discount=0.9), point(2, None, discount=0.9)]
    rows = cells(printed(tables.make_evaluation_table(evaluated(*members))))
    assert [row[:4] for row in rows[::2]] == [
        ["discount=0.9", "2", "greedy", "2"],
        ["discount=0.5", "1", "greedy", "-"],
    ]


def test_nothing_in_a_table_is_markup_or_obeyed_by_a_terminal():
    members = [point(0, 1.0, env="[red]evil[/red]\x1b[2J\n[/]")]
    text = printed(tables.make_evaluation_table(evaluated(*members) | {"env": "[bold]x\x1b[31m"}), 120)
    assert "env=[red]evil[/red]\\x1b[2J\\n[/]" in text and "[bold]x\\x1b[31m" in text and "\x1b" not in text


def test_a_finding_names_the_best_setting_or_says_that_there_is_none():
    members = [point(0, 1.0, haepo__kl_coef=0.5), point(1, 2.0, haepo__kl_coef=0.1), point(2, 4.0, haepo__kl_coef=0.1)]
    assert tables.describe_returns(members, "greedy_return", "greedy return") == (
        "Of 2 settings kl_coef=0.1 has the highest greedy return: 3, the mean over 2 seeds, worst 2. "
        "Fewer than 5 seeds decide nothing."
    )
    assert tables.describe_returns([point(0, 1.0)], "greedy_return", "greedy return") == (
        "The greedy return is 1, the mean over 1 seed."
    )
    assert tables.describe_returns([point(0, None)], "greedy_return", "return").startswith("No member has a return: ")


def test_the_figure_is_drawn_even_where_all_of_a_setting_died(workdir):
    path = learning_curve.draw_learning_curve(workdir)
    assert path == workdir / "learning_curve.png"
    assert learning_curve.has_learning_curve(workdir)


def test_a_figure_that_is_missing_or_damaged_is_known_as_such(workdir):
    assert not learning_curve.has_learning_curve(workdir)
    path = learning_curve.draw_learning_curve(workdir)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], b"<svg/>"):
        path.write_bytes(damaged)
        assert not learning_curve.has_learning_curve(workdir)
    path.unlink()
    path.mkdir()
    assert not learning_curve.has_learning_curve(workdir)


def test_the_mean_leaves_the_diverged_out():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(seed_mean(values), [2.0, 5.0, np.nan])


@pytest.mark.parametrize(("seeds", "bands"), [(1, False), (4, False), (5, True)])
def test_a_learning_curve_has_a_band_from_five_seeds_on(monkeypatch, seeds, bands):
    returns = np.random.default_rng(0).normal(size=(seeds, 6))
    drawn = []
    monkeypatch.setattr(figures, "curves", lambda series, **options: drawn.append((series, options)) or b"")
    learning_curve._draw(fixed_config({"num_seeds": seeds}), {"a": returns, "b": returns}, np.arange(1, 7))
    learning_curve._draw(fixed_config({"num_seeds": seeds}), {"": returns}, np.arange(1, 7))
    (several, options), ((alone,), _) = drawn
    for curve in (*several, alone):
        assert (curve.low is not None) == (curve.high is not None) == bands
    assert ("band" in options["title"]) == bands
    assert [curve.runs is None for curve in (*several, alone)] == [True, True, False]


def test_of_many_settings_those_that_end_highest_have_a_curve_each_and_the_others_one(monkeypatch):
    groups = {f"rate={k}": np.full((2, 6), float(k)) for k in range(30)}
    groups["dead"] = np.full((2, 6), np.nan)
    drawn = []
    monkeypatch.setattr(figures, "curves", lambda series, **options: drawn.extend(series) or b"")
    learning_curve._draw(fixed_config({"num_seeds": 2}), groups, np.arange(1, 7))
    assert [curve.label for curve in drawn] == [
        *(f"rate={k}" for k in range(29, 23, -1)),
        "the middle one of 25 others",
    ]
    np.testing.assert_array_equal(drawn[-1].centre, np.full(6, 11.5))
    assert all(curve.runs is None for curve in drawn)


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

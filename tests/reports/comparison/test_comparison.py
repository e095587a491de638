import html
import os
import re
import shutil

import numpy as np
import pytest
from helpers.html_page import Page
from helpers.made_up_sweeps import RATES, UPDATES, grid, level, write_sweep

from haepo_jax.analysis.verdicts import NO_DIFFERENCE, REPRODUCED, UNDECIDED, decide
from haepo_jax.errors import ConfigError
from haepo_jax.reports.comparison import folders
from haepo_jax.reports.comparison.differences import compare_pairs
from haepo_jax.reports.comparison.folders import collect_at_equal_steps, collect_finals, read_runs
from haepo_jax.reports.comparison.page import choose_folder, publish_comparison


def write_run(folder, base, seeds=5, **config):
    """A run whose seed k has the return base + k; the folder's name is its own."""
    return write_sweep(folder, [{}], lambda settings, seed: level(base + seed), seeds=seeds, **config)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two runs, and the page that compares them."""
    home = tmp_path_factory.mktemp("runs")
    runs = [write_run(home / "low", 10.0), write_run(home / "high", 20.0, optimizer={"learning_rate": 0.5})]
    page, finding = publish_comparison(runs)
    return runs, page, finding


def test_the_page_goes_into_the_first_run_and_leaves_both_as_they_are(written):
    runs, page, _ = written
    assert page == runs[0] / "comparison" / "high" / "report.html" == choose_folder(runs) / "report.html"
    assert not (runs[0] / "report.html").exists() and not (runs[1] / "comparison").exists()


def test_the_run_that_is_ahead_is_named_with_its_difference_and_the_probability_of_improvement(written):
    assert written[2] == (
        "high has the highest final return, 22 [20.7, 23.7]. high is ahead of low by final return: difference "
        "10 [7.67, 12.3], probability of improvement 1 [1, 1]."
    )


def test_the_page_has_curves_differences_and_the_settings_that_differ(written):
    text = written[1].read_text()
    page = Page(text)
    assert page.open == [] and {"returns", "differences", "settings"} <= set(page.attributes("id"))
    table = re.search(r"The settings that differ.*?<table>(.*?)</table>", text, re.DOTALL)[1]
    cells = [cell for cell in Page(table).text if cell.strip()]
    assert cells == ["setting", "low", "high", "optimizer.learning_rate", "0.003", "0.5"]
    assert "low ends at 12 after 2,000 steps; high ends at 22" in html.unescape(text)


def test_values_are_compared_by_pairs_and_few_seeds_decide_nothing():
    low, high = np.arange(8.0), np.arange(8.0) + 100
    same, ahead, few = (compare_pairs("ab", values)[0] for values in ([high, high], [high, low], [high[:4], low]))
    assert [decide(pair.comparison) for pair in (same, ahead, few)] == [NO_DIFFERENCE, REPRODUCED, UNDECIDED]
    assert (same.improvement.value, ahead.improvement.value) == (0.5, 1.0) and np.isnan(few.improvement.low)
    assert few.describe("return").startswith("Between a and b nothing is decided by return: difference 98 (too few")


def test_a_member_that_diverged_counts_as_the_worst_of_all_runs(tmp_path):
    def dies(settings, seed):
        return level(50.0)[: 7 if seed == 0 else None]

    runs = [write_run(tmp_path / "low", 10.0), write_sweep(tmp_path / "dies", [{}], dies, seeds=5)]
    _, finals = collect_finals(read_runs(runs))
    np.testing.assert_array_equal(finals, [10.0, 50.0, 50.0, 50.0, 50.0])


def test_runs_of_unequal_length_are_compared_at_equal_steps_too(tmp_path):
    def rise(settings, seed):
        return np.arange(1.0, UPDATES + 1)

    short = write_sweep(
        tmp_path / "short", [{}], rise, seeds=1, rows=lambda member: 10, complete=False, num_updates=10
    )
    shutil.copy(write_sweep(tmp_path / "long", [{}], rise, seeds=1) / "summary.json", short)
    steps, values = collect_at_equal_steps(read_runs([short, tmp_path / "long"]))
    assert steps == 1000 and [value.tolist() for value in values] == [[10.0], [10.0]]


def other_task(home):
    write_run(home / "b", 1.0, env="Acrobot-v1")


def other_numbers_of_the_task(home):
    write_run(home / "b", 1.0, env_params={"gravity": 20.0})


def a_sweep(home):
    write_sweep(home / "b", grid(optimizer__learning_rate=RATES), lambda settings, seed: level(1), seeds=1)


def at_work(home):
    write_sweep(home / "b", [{}], lambda settings, seed: level(1), seeds=3, rows=lambda member: 12, complete=False)


def the_same(home):
    os.symlink(home / "a", home / "b")


def no_return(home):
    write_sweep(home / "b", [{}], lambda settings, seed: level(np.nan), seeds=2)


def nothing(home):
    (home / "b").mkdir()


REFUSED = {
    other_task: "--workdir A has env=CartPole-v1 and --workdir B Acrobot-v1; only runs on the same task are compared.",
    other_numbers_of_the_task: "and --workdir B 20; only runs on the same task are compared.",
    a_sweep: "--workdir B holds 6 swept combinations of settings; runs of one setting each are compared",
    at_work: "--workdir B holds a run that is not complete: 3 of its 3 members have not ended; resume it",
    the_same: "--workdir A and --workdir B are the same folder; give each run once.",
    no_return: "--workdir B holds a run in which no member has a finite return.",
    nothing: "--workdir B holds no run: there is no config.json in it.",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_runs_that_cannot_be_compared_are_refused_in_a_sentence(tmp_path, make):
    write_run(tmp_path / "a", 1.0, seeds=1)
    make(tmp_path)
    with pytest.raises(ConfigError) as error:
        publish_comparison([tmp_path / "a", tmp_path / "b"])
    (sentence,) = str(error.value).splitlines()
    assert REFUSED[make] in sentence.replace(str(tmp_path / "a"), "A").replace(str(tmp_path / "b"), "B")
    assert not (tmp_path / "a" / "comparison").exists()


def test_copies_of_one_run_are_refused(tmp_path, monkeypatch):
    write_run(tmp_path / "a", 1.0, seeds=1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    read_runs([tmp_path / "a", tmp_path / "b"])  # of runs without an id it cannot be known
    monkeypatch.setattr(folders, "read_identity", lambda workdir: {"run": "4f"})
    with pytest.raises(ConfigError, match="are copies of the same run; give each run once"):
        read_runs([tmp_path / "a", tmp_path / "b"])


def test_a_page_is_not_written_over_that_of_a_run(tmp_path):
    runs = [write_run(tmp_path / name, 1.0, seeds=1) for name in "abc"]
    with pytest.raises(ConfigError, match=r"--output .*c is the folder of a run, which has a page of its own there"):
        publish_comparison(runs[:2], runs[2])


@pytest.mark.parametrize("name", ["run", "\U0001f600" * 30])
def test_the_folder_of_a_comparison_of_very_many_runs_has_a_name_that_file_systems_take(tmp_path, name):
    many = [tmp_path / f"{name}{number}" for number in range(80)]
    folder, other = choose_folder(many), choose_folder(many[:-1])
    folder.mkdir(parents=True)
    assert folder.parent == many[0] / "comparison" and folder.name.startswith(f"{name}1+") and folder != other

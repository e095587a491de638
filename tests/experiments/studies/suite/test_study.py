"""The suite on made-up runs, whose numbers decide what it has to say; and small, with real training."""

import dataclasses
import re

import numpy as np
import pytest
from helpers.made_up_runs import contents, damage
from helpers.made_up_studies import not_drawn
from helpers.made_up_suites import ONE_TASK, SMALL, make_suite, without_training

from experiments.studies.suite.methods import HAEPO, METHODS
from experiments.studies.suite.scale import FULL, QUICK, Scale
from experiments.studies.suite.study import run_suite
from experiments.studies.suite.tasks import FROZEN_LAKE, MOUNTAIN_CAR, TUNING
from experiments.studies.targets import WORDS
from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED
from haepo_jax.reports import figures


def noise(task, method, member):
    """A little, another one for each run."""
    words = f"{task.name} {method} {member.seed} {sorted(member.settings.items())}"
    return 0.02 * np.random.default_rng(list(words.encode())).uniform()


def ours_first(task, method, member):
    return (0.95 if method == "haepo" else 0.6) + noise(task, method, member)


def ours_last(task, method, member):
    return (0.3 if method == "haepo" else 0.97) + noise(task, method, member)


def all_alike(task, method, member):
    return 0.9 + 0.01 * member.seed


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return make_suite(ours_first, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    return make_suite(ours_last, tmp_path_factory.mktemp("last"))


TARGETS = {
    "is ahead of the best rival": CONTRADICTED,
    "of what it is at tuned for each task": REPRODUCED,
    "below 0.7 of PPO": CONTRADICTED,
    "FrozenLake-misc": CONTRADICTED,
    "UmbrellaChain": CONTRADICTED,
    "DiscountingChain": CONTRADICTED,
    "MountainCar": CONTRADICTED,
    "CartPole": CONTRADICTED,
}
"""Each by words of its text, with the verdict where HAEPO is last on all tasks."""


@pytest.mark.parametrize("words", TARGETS)
def test_every_target_is_reached_where_haepo_is_far_ahead(first, words):
    assert first.claim(words)["verdict"] == REPRODUCED


@pytest.mark.parametrize("words", TARGETS)
def test_targets_are_missed_where_haepo_is_far_behind_and_as_bad_when_tuned(last, words):
    assert last.claim(words)["verdict"] == TARGETS[words]


def test_the_headline_names_what_is_missed_and_the_best_rival(last):
    headline = last.verdicts["headline"]
    assert headline.startswith("Of 8 targets: 1 reached, 7 missed, 0 not shown, 0 undecided. Missed: With one setting")
    assert "On no task is HAEPO adaptive below 0.7 of PPO, one setting each." in headline
    assert re.search(r"HAEPO adaptive 0.3\d+ \[.*\] with one setting and 0.3.* tuned for each task, ", headline)
    assert re.search(r", the best rival with one setting, 0.9\d+ \[", headline)


def test_the_page_names_each_task_below_the_wanted_share_of_ppo(last, first):
    assert "is below 0.7 of PPO&#x27;s normalised score, one setting each, on CartPole-v1, MountainCar-v0" in last.page
    assert "On no task is HAEPO adaptive below 0.7 of PPO&#x27;s normalised score" in first.page


def test_where_all_are_alike_nothing_is_shown(tmp_path):
    made = make_suite(all_alike, tmp_path, ONE_TASK)
    assert made.claim("is ahead of the best rival")["verdict"] == NO_DIFFERENCE
    assert made.claim("FrozenLake-misc")["verdict"] == NO_DIFFERENCE


@pytest.mark.parametrize("changes", [{"quick": True}, {"seeds": 4}])
def test_a_quick_suite_and_one_of_few_seeds_decide_nothing(tmp_path, changes):
    made = make_suite(ours_last, tmp_path, dataclasses.replace(ONE_TASK, **changes))
    assert {claim["verdict"] for claim in made.verdicts["claims"]} == {UNDECIDED}
    assert ("Quick version." in made.page) == ("quick" in changes)


def test_the_page_calls_verdicts_by_the_words_of_targets(last):
    assert "What became of the targets" in last.page and "<th>Target</th>" in last.page
    assert f"</span> {WORDS[CONTRADICTED]}</span>" in last.page
    assert "contradicted</span>" not in last.page and "Claim of the paper" not in last.page


def test_every_method_has_a_score_on_every_task_in_the_tasks_own_unit(first):
    for section in ("one-setting", "tuned"):
        table = next(table for table in first.tables[section] if table["caption"].startswith("Score on each task"))
        assert table["columns"] == ["task", "random play", *(method.label for method in METHODS), "best known"]
        assert [row[0] for row in table["rows"]] == [task.label for task in SMALL.reported]
        row = dict(zip(table["columns"], table["rows"][1], strict=True))
        assert (row["task"], row["random play"], row["best known"]) == (MOUNTAIN_CAR.label, "-200", "-101")
        assert float(row[HAEPO.label]) == pytest.approx(-200 + 0.96 * (200 - 100.8), abs=2)


def test_the_runs_are_as_many_as_the_countdown_says(first, last):
    # Where both settings of a method are one, its reported run has one of them.
    assert len(first.configs) == len(last.configs) == SMALL.runs
    assert SMALL.runs == len(METHODS) * (1 + 2 * 5)


def test_a_second_call_does_no_run_and_a_damaged_run_is_done_again_alone(tmp_path):
    folder = make_suite(ours_first, tmp_path, ONE_TASK).folder
    before, written = contents(folder / "runs"), (folder / "tables.json").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, ours_first, tmp_path)
        patch.setattr(figures, "responsive", not_drawn)
        run_suite(folder, ONE_TASK)
        assert trainer.configs == [] and contents(folder / "runs") == before
        damage(next((folder / "runs" / "frozen_lake" / "ppo" / "metrics").iterdir()))
        run_suite(folder, ONE_TASK)
    assert [config.algorithm for config in trainer.configs] == ["ppo"]
    after = contents(folder / "runs")
    changed = {name for name in before if before[name] != after[name]}
    assert changed and all(name.startswith("frozen_lake/ppo/") for name in changed)
    assert (folder / "tables.json").read_bytes() == written


def test_both_scales_leave_tuning_tasks_out_of_the_report():
    for scale in (FULL, QUICK):
        assert not {task.settings["env"] for task in scale.tuning} & {task.settings["env"] for task in scale.reported}
    assert len(FULL.reported) >= 16 and len(FULL.tuning) == 4 and FULL.seeds >= 16


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suite_is_trained_and_written(tmp_path):
    smallest = Scale(
        quick=False,
        reported=(FROZEN_LAKE,),
        tuning=(TUNING[1],),
        seeds=2,
        tuning_seeds=1,
        budget=0.01,
        episodes=64,
    )
    page, headline = run_suite(tmp_path, smallest)
    assert page.read_text().count("<figure>") == 4 and headline.startswith("Of 4 targets")
    assert len(list((tmp_path / "runs").rglob("seal.json"))) == smallest.runs

"""The comparison, from runs and answers that nobody trained."""

import json
import re

import numpy as np
import pytest

from experiments.studies.language_runs import Tuned
from experiments.studies.methods import nest_settings
from experiments.studies.tldr import comparison
from experiments.studies.tldr.methods import METHODS
from experiments.studies.tldr.scale import FULL, QUICK
from haepo_jax.language.config import from_config_dict
from haepo_jax.language.stages.answering import Answers
from haepo_jax.reports.html import render
from haepo_jax.reports.page import Report

POSTS, UPDATES, LOOKS = 40, 20, 4
GOLD = {"haepo_sum": 1.0, "haepo_mean": 2.0, "haepo_log_ratio": 2.5, "grpo": 2.5, "rloo": 2.0, "dpo": 3.0}


class MadeUp:
    """Stands in for `Runs`."""

    scale = FULL

    def __init__(self, directory):
        self.directory, self.asked = directory, []

    def prepare(self):
        pass

    def config(self, settings):
        return from_config_dict(nest_settings(settings))

    def tune(self, method):
        scores = tuple((chosen, GOLD[method.name] - number) for number, chosen in enumerate(method.settings()))
        return Tuned(method, method.settings()[0], scores)

    def reported(self, tuned):
        self.asked.append(tuned.method.name)
        return tuple(f"{tuned.method.name}-seed{seed}" for seed in range(self.scale.seeds))

    def metric(self, name, metric):
        assert metric == "effective_sample_size"
        if name.startswith("haepo_mean") or name == "haepo_sum-seed1":
            return np.full(UPDATES, np.nan)  # they diverged
        return np.full(UPDATES, {"haepo_sum": 1.0, "haepo_mean": 6.0}.get(name.partition("-")[0], 8.0))

    def looks(self, name, measure):
        seed = int(name[-1])
        looks = {"rloo-seed1": LOOKS - 2, "dpo-seed1": 0}.get(name, LOOKS)  # they diverged, one before its first look
        top = {"gold": GOLD[name.partition("-")[0]], "reference_kl": 2.0}[measure]
        return np.linspace(0.25, 1.0, LOOKS)[:looks] * top + 0.01 * seed

    def reward_accuracy(self):
        return 0.82

    def seconds(self, name):
        return 20.0

    def tokens(self, name):
        return 60_000


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    def answers_of(setting, names, split="test"):
        rng = np.random.default_rng(0)

        def answers(gold):
            noise = rng.normal(0, 0.2, POSTS)
            return Answers(np.full(POSTS, 7), np.ones(POSTS, bool), np.full(POSTS, 1.5), noise, gold + noise)

        return {"sft": answers(1.2)} | {name: answers(GOLD[name.partition("-")[0]]) for name in names}

    monkeypatch.setattr(comparison, "make_context", lambda config, workdir: None)
    monkeypatch.setattr(comparison, "collect_answers", answers_of)
    monkeypatch.setattr(comparison, "_task", lambda runs: {"best": 3.4, "references": 1.6, "ceiling": 0.85})
    return MadeUp(tmp_path)


def test_the_headline_has_every_method_in_one_order_and_no_winner(made_up):
    headline = comparison.study(made_up).headline
    assert headline.startswith(
        "HAEPO and its baselines on generated summaries, gold reward at the end and KL from the"
    )
    assert "The recommended HAEPO has the score log_ratio, chosen on a tuning seed." in headline
    places = [headline.index(f" {method.label} ") for method in METHODS]
    assert places == sorted(places)
    assert "more than" not in headline and "less than" not in headline


def test_the_findings_have_a_word_for_each_rival(made_up):
    findings = comparison.study(made_up).section.findings
    words = {
        rival: re.search(r"\((more|less|no difference shown|undecided)\) in gold", line)[1]
        for rival in ("GRPO", "RLOO", "DPO")
        for line in findings
        if line.startswith(f"HAEPO, log_ratio less {rival}: ")
    }
    assert words == {"GRPO": "no difference shown", "RLOO": "more", "DPO": "less"}


def test_two_seeds_decide_nothing_and_show_no_interval(made_up, monkeypatch):
    monkeypatch.setattr(MadeUp, "scale", QUICK)
    compared = comparison.study(made_up)
    prose = " ".join((compared.headline, *compared.section.findings[1:]))
    assert "[" not in prose and "(more)" not in prose and "(less)" not in prose
    assert "too few seeds for an interval" in prose and "as nothing was tuned" in prose
    assert not [cell for table in compared.section.tables for row in table.rows for cell in row if "[" in cell]
    assert not [figure.caption for figure in compared.section.figures if "with 95%" in figure.caption]


def test_the_reachable_reward_is_reported_first(made_up):
    reach = comparison.study(made_up).section.findings[0]
    assert reach.startswith("On the test posts the best summaries earn 3.40, the references 1.60 and the fine-tuned")
    assert "decides 0.820 of the held-out comparisons rightly; knowing gold, one would decide 0.850" in reach


def test_every_method_is_reported_on_every_seed(made_up):
    compared = comparison.study(made_up)
    assert made_up.asked == [method.name for method in METHODS]
    outcome, wins, costs = compared.section.tables
    assert [row[0] for row in outcome.rows] == ["fine-tuned policy", *(method.label for method in METHODS)]
    assert [len(table.rows) for table in (wins, costs)] == [6, 6]
    assert costs.rows[0][2:] == ("60,000", "20")


def test_wins_are_between_policies_of_the_same_seed(made_up):
    comparison.study(made_up)
    judged = json.loads((made_up.directory / "computed" / "judged.json").read_text())["value"]
    assert len(judged["win_rates"]) == FULL.seeds
    for rates in judged["win_rates"]:
        assert set(rates) == {"sft", *(method.name for method in METHODS)}
        assert rates["dpo"]["haepo_sum"]["plain"] == 1.0


def test_answers_are_judged_once(made_up, monkeypatch):
    first = comparison.study(made_up).section
    monkeypatch.setattr(comparison, "collect_answers", lambda *arguments: pytest.fail("judged again"))
    assert comparison.study(made_up).section.tables == first.tables


def test_the_saturation_of_each_score_is_reported(made_up):
    findings = "\n".join(comparison.study(made_up).section.findings)
    assert "HAEPO, sum: effective sample size 1 of 8 over the first tenth" in findings
    assert "over the last, of the 4 seeds that did not diverge." in findings
    assert "HAEPO, mean: every seed diverged." in findings


def test_the_study_fits_a_page_though_a_run_diverged(made_up):
    compared = comparison.study(made_up)
    page = render(Report("TL;DR", compared.headline, (compared.section,)))
    assert page.count("<figure>") == 4

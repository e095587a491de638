"""Every study on made-up runs, whose numbers decide what it has to say."""

import dataclasses
import functools
import html
import re
import shutil

import pytest
from helpers.made_up_runs import contents, damage
from helpers.made_up_studies import (
    INSTANCE,
    QUICK_SMALL,
    STORIES,
    all_equal,
    haepo_first,
    haepo_never,
    make_report,
    not_drawn,
    paper_form_never,
    recommended_first,
    some_diverge,
    without_training,
)

from experiments.studies.paper import bandits, cartpole, deep_sea
from experiments.studies.paper.methods import METHODS, PAPER, PAPER_ZSCORED
from experiments.studies.paper.reproduction import JUDGED, reproduce
from experiments.studies.paper.scale import FULL, QUICK
from experiments.studies.paper.tuning import TUNING_SEED
from haepo_jax.analysis.verdicts import VERDICTS
from haepo_jax.config import sweep_points
from haepo_jax.reports import figures

DRAWN = ["bandits", "random-walk", "cartpole", "deep-sea", "ablations", "references", "gradients"]
SLUGS = [*DRAWN, "sharpness"]
OFTEN = (haepo_first, paper_form_never)
"""Of the stories, those of which every run of the tests makes the page, as tests of one story ask for it."""


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    """Makes the report of a story, once."""
    return functools.cache(lambda story: make_report(story, tmp_path_factory.mktemp(story.__name__)))


@pytest.fixture(
    params=[pytest.param(story, marks=() if story in OFTEN else pytest.mark.slow) for story in STORIES],
    ids=[story.__name__ for story in STORIES],
)
def any_story(report_of, request):
    return report_of(request.param)


def test_every_claim_has_a_verdict_and_is_on_the_page(any_story):
    text = html.unescape(re.sub(r"</?span[^>]*>", "", any_story.page))
    # One that some comparisons reproduce and others contradict has a line for each of these.
    assert len({claim["text"].partition(" (")[0].removesuffix(".") for claim in any_story.verdicts["claims"]}) == 9
    for claim in any_story.verdicts["claims"]:
        assert claim["section"] in SLUGS
        assert claim["verdict"] in VERDICTS and claim["recommended"] in VERDICTS
        assert claim["text"] in text and claim["evidence"] in text
    assert any_story.verdicts["headline"] in text


def test_every_study_has_its_tables_and_figures(any_story):
    assert list(any_story.tables) == SLUGS
    assert all(tables for tables in any_story.tables.values())
    drawn = {path.name for path in (any_story.folder / "figures").iterdir()}
    assert {name.rpartition("-")[0] for name in drawn - {"claims.svg"}} == set(DRAWN)
    assert len(drawn) == any_story.page.count("<figure>") == 17


def test_no_number_is_missing(any_story):
    cells = [cell for tables in any_story.tables.values() for table in tables for row in table["rows"] for cell in row]
    texts = [any_story.verdicts["headline"], *(claim["evidence"] for claim in any_story.verdicts["claims"]), *cells]
    assert not [text for text in texts if re.search(r"\b(nan|None)\b", text)]


def test_no_run_is_asked_for_with_two_configs(any_story):
    seals = list((any_story.folder / "runs").rglob("seal.json"))
    assert len(seals) == len(any_story.configs)


def test_every_setting_that_was_tried_is_in_the_tables(any_story):
    folded = re.findall(r"<summary>([^<]*): every setting tried, by [^<]*\((\d+) rows\)</summary>", any_story.page)
    assert folded == [
        ("CartPole-v1", str(count_settings(cartpole.METHODS))),
        ("Random walk", str(count_settings(METHODS))),
        ("Gaussian bandit, K = 4", str(count_settings(bandits.METHODS))),
        ("DeepSea, size 4", str(count_settings(deep_sea.METHODS))),
    ]
    methods = len(cartpole.METHODS) + len(METHODS) + len(bandits.METHODS) + len(deep_sea.METHODS)
    assert any_story.page.count("<tr class=marked>") == methods


def count_settings(methods):
    return sum(48 if method in (PAPER, PAPER_ZSCORED) else 8 for method in methods)


def test_tuning_and_reported_seeds_and_bandits_never_meet(report_of):
    by_env = {}
    for config in report_of(haepo_first).configs:
        tuning = config.seed >= TUNING_SEED
        assert config.seed in (0, TUNING_SEED)
        seeds = set(range(config.seed, config.seed + config.num_seeds))
        if "Bandit" in config.env:
            assert all((instance >= 1000) == tuning for instance in config.sweep[INSTANCE])
        by_env.setdefault((config.env, tuning), set()).update(seeds)
    assert len(by_env) == 9  # Bernoulli bandits are not tuned on
    for env, _ in by_env:
        assert not by_env[env, False] & by_env.get((env, True), set())


def test_every_method_is_tuned_with_as_many_members_and_the_papers_form_with_more(report_of):
    sizes = {}
    for config in report_of(haepo_first).configs:
        if config.seed == TUNING_SEED:
            sizes.setdefault(config.env, []).append(config.num_seeds * len(list(sweep_points(config))))
    assert {env: set(counts) for env, counts in sizes.items()} == {
        "CartPole-v1": {8, 12},
        "RandomWalk-haepo": {8, 12},
        "GaussianBandit-haepo": {16, 24},
        "DeepSea-bsuite": {8, 12},
    }
    assert len(sizes["CartPole-v1"]) == sum(len(method.cases) for method in cartpole.METHODS)


def test_a_true_claim_is_reproduced(report_of):
    story = report_of(haepo_first)
    assert "score sum, chosen on tuning seeds" in story.verdicts["headline"]
    for words in (
        *("converges faster", "smoother and more stable", "ahead of PPO and DPO", "less regret than"),
        *("explores better", "soft KL", "more coherent gradient", "per-step regret varies less"),
    ):
        assert story.words(words) == ("reproduced", "reproduced")
    assert story.words("entropy term") == ("no difference shown", "no difference shown")


@pytest.mark.slow
def test_the_paper_s_form_alone_decides_what_becomes_of_its_claims(report_of):
    story = report_of(paper_form_never)
    for words in ("converges faster", "ahead of PPO and DPO", "less regret than", "soft KL", "entropy term"):
        assert story.words(words)[0] != "reproduced"
    for words in ("converges faster", "ahead of PPO and DPO", "less regret than"):
        assert story.words(words) == ("contradicted", "reproduced")
    # On DeepSea it is judged with z-scores, which is another form in this story.
    assert story.words("explores better")[0] == "reproduced"


def test_the_paper_s_form_with_z_scores_stands_beside_it_and_judges_nothing(report_of):
    story = report_of(paper_form_never)
    for words in ("converges faster", "ahead of PPO and DPO"):
        (claim,) = [claim for claim in story.verdicts["claims"] if words in claim["text"]]
        assert re.search(r"HAEPO, paper's form, z-scored, against PPO: [^;]* \(reproduced\)", claim["evidence"])
        assert claim["verdict"] == "contradicted"


def test_the_page_says_by_which_form_it_judges(any_story):
    assert any_story.verdicts["judged"] == JUDGED
    assert any_story.verdicts["headline"].startswith(f"Of {len(any_story.verdicts['claims'])} claims, on {JUDGED}: ")
    for words in (
        "score sum",
        "divided by their sum",
        "5e-05 to 0.01",
        "lambda 0 or beta",
        "one gradient step a batch",
    ):
        assert words in JUDGED


def test_the_page_says_in_which_share_of_batches_the_returns_were_dropped(report_of):
    page = html.unescape(report_of(haepo_first).page)
    share = "the returns of 25.0% of the batches, 100.0% in the first tenth of the updates, do not sum to a positive"
    for place in ("Gaussian bandit, K = 3, HAEPO, paper's form", "Gaussian bandit, K = 4, HAEPO, paper's form"):
        assert f"{place}: {share}" in page
    for place in ("Bernoulli bandit, K = 3, HAEPO, paper's form", "<li>HAEPO, paper's form"):
        assert f"{place}: the returns of every batch sum to a positive number." in page


def test_the_ablations_are_at_every_beta_of_the_papers_range(report_of):
    story = report_of(haepo_first)
    for table in story.tables["ablations"]:
        rows = [row[0] for row in table["rows"]]
        assert rows[:4] == [f"HAEPO, paper's form, beta {beta}" for beta in ("5e-05", "0.0005", "0.005", "0.01")]
    regularised = [config for config in story.configs if set(config.sweep) == {"haepo.entropy_coef", "haepo.kl_coef"}]
    judged = [config for config in regularised if (config.haepo.normalization, config.haepo.num_epochs) == ("sum", 1)]
    assert len(regularised) == 2 * (4 + 3) and len(judged) == 2 * 4
    for config in judged:
        assert config.sweep["haepo.entropy_coef"] == config.sweep["haepo.kl_coef"]  # beta and 0, for both
    assert {config.sweep["haepo.kl_coef"] for config in judged} == {(beta, 0.0) for beta in (5e-5, 5e-4, 5e-3, 1e-2)}


def test_the_sharpness_of_the_target_is_a_table_with_a_row_for_each_task_and_normalisation(report_of):
    (table,) = report_of(haepo_first).tables["sharpness"]
    assert table["columns"][3:] == ["b = 5e-05", "b = 0.0005", "b = 0.005", "b = 0.01", "b = 0.02"]
    cells = {row[0]: row[1:] for row in table["rows"]}
    assert cells["CartPole-v1, sum"] == ["16", "100%", *["4.00"] * 5]
    assert cells["CartPole-v1, zscore"] == ["16", "100%", *["1.00"] * 5]
    assert cells["Random walk, sum"] == ["16", "0%", *["–"] * 5]
    assert len(cells) == 8


@pytest.mark.slow
def test_the_verdict_on_the_recommended_form_stands_beside_that_on_the_papers(report_of):
    story = report_of(recommended_first)
    assert "score log_ratio, chosen on tuning seeds" in story.verdicts["headline"]
    for words in ("converges faster", "ahead of PPO and DPO", "less regret than"):
        assert story.words(words) == ("contradicted", "reproduced")
    # Neither the paper's form nor a baseline finds the treasure.
    assert story.words("explores better") == ("undecided", "reproduced")
    assert "HAEPO, paper's form, z-scored, size 4 against PPO: no seed of either finds it" in html.unescape(story.page)


@pytest.mark.slow
def test_a_worse_result_is_contradicted_and_never_against_never_is_undecided(report_of):
    story = report_of(haepo_never)
    assert story.words("converges faster") == ("undecided", "undecided")  # PPO's middle seeds never get there either
    (claim,) = [claim for claim in story.verdicts["claims"] if "converges faster" in claim["text"]]
    assert "HAEPO, paper's form, against PPO: neither reaches 475 (undecided)" in claim["evidence"]
    for words in ("ahead of PPO and DPO", "less regret than", "explores better"):
        assert story.words(words)[0] == "contradicted"


def test_titles_and_headlines_name_no_winner(any_story):
    title = re.search(r"<h1>(.*?)</h1>", any_story.page)[1]
    assert title == "HAEPO and its baselines on bandits, a random walk, CartPole and DeepSea"
    headline = any_story.verdicts["headline"]
    assert "HAEPO and its baselines on CartPole-v1, environment steps to a return of 475" in headline
    places = [headline.index(f"{method.label} ") for method in cartpole.METHODS[:5]]
    assert places == sorted(places)  # always in one order
    assert not re.search(r"\b(best|sooner|later|faster|winner|wins|ahead)\b", headline)


@pytest.mark.slow
def test_few_seeds_decide_nothing_and_show_no_interval(tmp_path):
    few = dataclasses.replace(QUICK_SMALL, quick=False, seeds=4, instance_seeds=2, batches=4)
    made = make_report(haepo_first, tmp_path, few)
    assert {claim[word] for claim in made.verdicts["claims"] for word in ("verdict", "recommended")} == {"undecided"}
    evidence = " ".join(claim["evidence"] for claim in made.verdicts["claims"])
    assert "too few seeds for an interval" in evidence
    of_seeds = [table for slug, tables in made.tables.items() if slug != "gradients" for table in tables]
    assert not [cell for table in of_seeds for row in table["rows"] for cell in row if "[" in cell]
    assert not re.search(r"\b(sooner|later|less regret|more regret)\b", " ".join(findings(made.page)))
    assert "with 95%" not in re.sub('<section id="gradients">.*?</section>', "", made.page, flags=re.DOTALL)


def findings(page):
    return re.findall(r"<li>([^<]*)</li>", "".join(re.findall(r'<ul class="findings">.*?</ul>', page, re.DOTALL)))


def test_a_quick_look_decides_nothing_however_many_seeds(quick):
    assert {claim[word] for claim in quick.verdicts["claims"] for word in ("verdict", "recommended")} == {"undecided"}


@pytest.mark.slow
def test_seeds_that_never_get_there_are_reported_in_words(report_of):
    story = report_of(haepo_never)
    assert "PPO: 3 of 6 seeds end below 475, the worst at " in story.page
    (table,) = story.tables["cartpole"]
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert rows["HAEPO, sum"]["env steps to 475"] == "never"
    assert rows["PPO"]["env steps to 475"].startswith("never [") and rows["PPO"]["seeds at 475"] == "3 of 6"
    assert "never" not in rows["GRPO"]["env steps to 475"]
    assert "∞" not in story.page


@pytest.mark.slow
def test_seeds_that_diverged_count_as_failed(report_of):
    story = report_of(some_diverge)
    (table,) = story.tables["cartpole"]
    for row in table["rows"]:
        cells = dict(zip(table["columns"], row, strict=True))
        assert cells["worst seed"] == "0.0" and cells["seeds at 475"] == "5 of 6"
    (walk,) = story.tables["random-walk"]
    assert {row[walk["columns"].index("worst seed")] for row in walk["rows"]} == {"0.00"}


@pytest.mark.slow
def test_where_nothing_differs_no_difference_is_shown(report_of):
    story = report_of(all_equal)
    for words in ("less regret than", "ahead of PPO and DPO", "smoother", "entropy term", "soft KL"):
        assert story.words(words) == ("no difference shown", "no difference shown")
    # Nobody gets there, and nobody finds the treasure.
    assert story.words("converges faster") == story.words("explores better") == ("undecided", "undecided")


@pytest.mark.slow
@pytest.mark.parametrize("story", [haepo_never, all_equal])
def test_figures_are_drawn_whatever_the_numbers(tmp_path, story):
    made = make_report(story, tmp_path, QUICK_SMALL, drawn=True)
    drawn = sorted((made.folder / "figures").glob("*.svg"))
    assert len(drawn) in (16, 17)  # that of all claims only where one has an interval
    assert all(path.read_bytes().startswith(b"<?xml") or b"<svg" in path.read_bytes()[:200] for path in drawn)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return make_report(haepo_first, tmp_path_factory.mktemp("quick"), QUICK_SMALL)


def test_a_quick_look_is_untuned_and_marked_as_quick(quick):
    assert "Quick version." in quick.page
    assert "python -m experiments.paper --workdir=DIR --quick" in quick.page
    assert not list((quick.folder / "runs").rglob("tuning"))
    assert "score log_ratio" in quick.verdicts["headline"]
    assert {config.seed for config in quick.configs} == {0}


def test_a_quick_look_does_not_speak_of_tuning_that_was_not_done(quick):
    assert "chosen on tuning seeds" not in quick.page
    assert "each tried on 0 seeds" not in quick.page and "(0 rows)" not in quick.page


@pytest.mark.slow
def test_bandits_of_few_pulls_have_verdicts(tmp_path):
    made = make_report(haepo_first, tmp_path, dataclasses.replace(QUICK_SMALL, budget=0.02))
    assert "bandits" in {claim["section"] for claim in made.verdicts["claims"]}


@pytest.mark.slow
def test_all_runs_of_the_full_studies_have_a_valid_config(tmp_path):
    few = {"seeds": 2, "tuning_seeds": 1, "instances": 2, "instance_seeds": 2}
    scale = dataclasses.replace(FULL, **few, tuning_instances=1, tuning_instance_seeds=1)
    made = make_report(haepo_never, tmp_path, scale)
    arms = {config.env_kwargs["num_arms"] for config in made.configs if config.env == bandits.GAUSSIAN}
    sizes = {config.env_kwargs["size"] for config in made.configs if config.env == "DeepSea-bsuite"}
    assert arms == set(FULL.arms) and sizes == set(FULL.deep_seas)
    assert {config.max_env_steps for config in made.configs if config.env == "CartPole-v1"} == {150_000}
    assert len(made.configs) == FULL.runs


def test_a_quick_look_has_the_announced_number_of_runs(quick):
    assert len(quick.configs) == QUICK.runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished reproduction, and a way to ask for it again that gives the configs of the runs that were done."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        trainer = without_training(patch, haepo_first, folder)
        patch.setattr(figures, "responsive", not_drawn)
        reproduce(folder / "w", QUICK_SMALL)

        def again():
            trainer.configs.clear()
            reproduce(folder / "w", QUICK_SMALL)
            return list(trainer.configs)

        yield folder / "w", again


def parts(folder):
    return {name: content for name, content in contents(folder).items() if name.startswith(("runs", "computed"))}


def whole(folder):
    """Every file's bytes. A run that is done again has another id, which its parts, its run.json and its seal hold."""
    of_a_run = ("run.json", "seal.json", ".parquet")
    return {name: content for name, (content, _) in contents(folder).items() if not name.endswith(of_a_run)}


def test_a_second_call_does_nothing_but_write_the_same_page(finished):
    folder, again = finished
    before, pages = parts(folder), whole(folder)
    assert again() == []
    assert parts(folder) == before
    assert whole(folder) == pages


def test_a_damaged_run_is_done_again_alone_and_the_page_is_the_same(finished):
    folder, again = finished
    before, pages = parts(folder), whole(folder)
    damage(next((folder / "runs" / "walk" / "ppo" / "metrics").iterdir()))
    (config,) = again()
    assert (config.algorithm, config.env) == ("ppo", "RandomWalk-haepo")
    after = parts(folder)
    assert {name for name in before if before[name] != after[name]} <= {n for n in before if "runs/walk/ppo/" in n}
    assert whole(folder) == pages


def test_a_missing_study_is_done_again_alone(finished):
    folder, again = finished
    before, pages = parts(folder), whole(folder)
    shutil.rmtree(folder / "runs" / "deep_sea_4")
    (folder / "computed" / "gradients.json").unlink()
    (folder / "report.html").unlink()
    assert {config.env for config in again()} == {"DeepSea-bsuite"}
    after = parts(folder)
    untouched = [name for name in before if "deep_sea_4" not in name and name != "computed/gradients.json"]
    assert len(untouched) > 100
    assert all(before[name] == after[name] for name in untouched)
    assert whole(folder) == pages

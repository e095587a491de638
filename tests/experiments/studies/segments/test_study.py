"""The study of segments on made-up runs, whose numbers decide what it has to say; and small, with real training."""

import dataclasses

import pytest
from helpers.made_up_runs import contents
from helpers.made_up_segments import ONE_GAME, RIGHT_B, SMALL, make_study

from configs import minatar_asterix, minatar_breakout, minatar_freeway, minatar_space_invaders
from experiments.studies.methods import nest_settings
from experiments.studies.segments import tasks
from experiments.studies.segments.methods import HAEPO, METHODS, PPO, SETTINGS_PER_METHOD
from experiments.studies.segments.scale import CNN_SEEDS, FULL, QUICK
from experiments.studies.segments.study import run_study
from experiments.studies.segments.tasks import BREAKOUT, GAMES, MEMORY, can_run
from experiments.studies.suite.selection import TUNING_SEED, make_settings
from haepo_jax.analysis.verdicts import CONTRADICTED, NO_DIFFERENCE, REPRODUCED, UNDECIDED
from haepo_jax.config import from_config_dict, traced_settings


def spread(member):
    """A little, another one for each seed."""
    return 0.01 * (member.seed % 7)


def ours_first(config, member):
    """Segments are ahead of PPO, most so with a lambda of 0.9; a fixed b is worse the farther it is from right."""
    if config.algorithm == "ppo":
        return 0.5 + spread(member)
    if config.env == "MemoryChain-bsuite":
        return (0.97 if config.policy.network == "gru" else 0.0) + spread(member) / 10
    level = 0.9 if config.haepo.segment_length == 1 else 0.4
    if config.haepo.segment_adapt == "fixed" and config.haepo.entropy_coef != RIGHT_B:
        level = 0.3
    if member.settings.get("haepo.gae_lambda", 0.9) != 0.9:
        level -= 0.2
    return level + spread(member)


def ours_last(config, member):
    """All that should be ahead is behind."""
    if config.env == "MemoryChain-bsuite":
        return 0.1 + spread(member)
    is_held = config.algorithm == "haepo" and config.haepo.segment_adapt != "fixed"
    return (0.2 if is_held else 0.7) + spread(member)


def all_alike(config, member):
    return 0.95 + 0.001 * (member.seed - 2)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return make_study(ours_first, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    return make_study(ours_last, tmp_path_factory.mktemp("last"))


@pytest.fixture(scope="module")
def grown(first):
    """The first study asked for again, with the convolutional network; with it the files of its runs before."""
    before = contents(first.folder / "runs")
    return make_study(ours_first, first.folder.parent, dataclasses.replace(SMALL, cnn_seeds=CNN_SEEDS)), before


TARGETS = (
    "On Asterix-MinAtar HAEPO",
    "On Breakout-MinAtar HAEPO",
    "Over the games together",
    "A controller does better",
    "On MemoryChain-bsuite, length 5 a GRU is at 0.95",
)


@pytest.mark.parametrize("words", TARGETS)
def test_every_target_is_reached_where_haepo_is_ahead_and_missed_where_it_is_behind(first, last, words):
    assert first.claim(words)["verdict"] == REPRODUCED
    assert last.claim(words)["verdict"] == CONTRADICTED


def test_the_headline_counts_the_targets_names_those_missed_and_gives_both_numbers(first, last):
    assert first.verdicts["headline"].startswith(
        "Of 5 targets: 5 reached, 0 missed, 0 not shown, 0 undecided. Interquartile mean of normalised scores over 2 "
        "games, MLP: HAEPO with segments 0.9"
    )
    assert "Missed: On Asterix-MinAtar HAEPO with segments is at PPO's score" in last.verdicts["headline"]


def test_the_page_says_where_segments_are_ahead_behind_or_tied(first, last, tmp_path):
    assert "HAEPO with segments is ahead of PPO on Asterix-MinAtar" in first.page
    assert "HAEPO with segments is behind PPO on Asterix-MinAtar" in last.page
    alike = make_study(all_alike, tmp_path, ONE_GAME)
    assert "HAEPO with segments is tied with PPO on Breakout-MinAtar" in alike.page
    assert {claim["verdict"] for claim in alike.verdicts["claims"]} == {NO_DIFFERENCE}


@pytest.mark.parametrize(
    "changes", [{"quick": True}, pytest.param({"seeds": 4, "part_seeds": 4}, marks=pytest.mark.slow)]
)
def test_a_quick_study_and_one_of_few_seeds_decide_nothing(tmp_path, changes):
    made = make_study(ours_last, tmp_path, dataclasses.replace(ONE_GAME, **changes))
    assert {claim["verdict"] for claim in made.verdicts["claims"]} == {UNDECIDED}
    assert "is not compared by an interval with PPO on Breakout-MinAtar" in made.page


def test_a_game_has_the_score_of_both_methods_and_what_gymnax_reports_with_its_steps(first):
    row = first.row("games", "Breakout-MinAtar, MLP")
    assert float(row[HAEPO.label].split()[0]) == pytest.approx(28 * 0.925, abs=0.2)
    assert float(row[PPO.label].split()[0]) == pytest.approx(28 * 0.525, abs=0.2)
    assert row["elsewhere"] == "28 (10)" and row["random play"] == "0"


def test_the_convolutional_network_has_rows_of_its_own_and_is_left_out_unless_asked_for(first, grown):
    made, _ = grown
    names = [row[0] for row in made.tables["games"][0]["rows"]]
    assert names[3:] == ["Asterix-MinAtar, CNN", "Breakout-MinAtar, CNN", "all games, normalised, CNN"]
    assert "[" not in made.row("games", "Breakout-MinAtar, CNN")["difference"]
    assert "--cnn adds it" in first.page and "--cnn adds it" not in made.page


def test_the_convolutional_network_adds_runs_to_a_study_that_is_there_and_repeats_none(grown):
    made, before = grown
    assert [(config.policy.network, config.num_seeds) for config in made.configs] == [("cnn", CNN_SEEDS)] * 4
    assert before.items() <= contents(made.folder / "runs").items()


def test_settings_are_chosen_on_tuning_seeds_of_all_games(first):
    tuned = [config for config in first.configs if config.seed == TUNING_SEED]
    assert [(config.env, config.algorithm) for config in tuned] == [
        (game.settings["env"], method.name) for method in METHODS for game in SMALL.games
    ]
    reported = [config for config in first.configs if config.seed == 0]
    assert len(tuned) + len(reported) == len(first.configs) == SMALL.runs - 2  # one memory task is left out
    assert {config.haepo.gae_lambda for config in reported if config.haepo.segment_length == 1} == {0.9}


def test_lengths_are_compared_on_the_same_seeds_and_the_first_is_that_of_the_games(first):
    assert [row[0] for row in first.tables["lengths"][0]["rows"]] == ["1", "8"]
    assert first.row("lengths", "1")["return at the end"].startswith("25.8")  # seeds 0 to 4 of 0 to 5
    assert [c.num_seeds for c in first.configs if c.haepo.segment_length == 8] == [SMALL.part_seeds]
    assert "most with h = 1, 25.8" in first.page


def test_fixed_sharpness_is_at_shares_of_what_the_controller_took(first):
    fixed = [config.haepo for config in first.configs if config.haepo.segment_adapt == "fixed"]
    assert [haepo.entropy_coef for haepo in fixed] == [RIGHT_B / 2, RIGHT_B, RIGHT_B * 5]
    assert {haepo.kl_coef for haepo in fixed} == {0.0}
    assert {config.num_seeds for config in first.configs if config.haepo.segment_adapt == "fixed"} == {5}
    assert [row[0] for row in first.tables["sharpness"][0]["rows"]][:2] == ["held by dual", "held by ess"]


def test_a_memory_task_is_left_out_without_its_library_and_kept_once_its_runs_are_there(tmp_path, monkeypatch):
    asks = MEMORY[-1]
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    assert can_run(tmp_path, MEMORY[0]) and not can_run(tmp_path, asks)
    for one in asks.both:
        folder = tmp_path / "runs" / one.name / asks.method.name
        folder.mkdir(parents=True)
        (folder / "seal.json").touch()
    assert can_run(tmp_path, asks)


def test_the_page_says_which_memory_task_was_left_out(first):
    assert "popjym:RepeatPreviousEasy was left out: its library is not installed." in first.page


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_both_methods_have_as_many_settings_of_one_program_and_the_same_steps(method):
    assert len(method.settings()) == SETTINGS_PER_METHOD
    config = from_config_dict(nest_settings(make_settings(BREAKOUT, method, 1.0)))
    assert set(method.grid) <= set(traced_settings(config))
    assert (config.num_updates, config.max_env_steps, config.num_trajectories) == (123, 1_000_000, 64)


def test_memory_tasks_are_learnt_for_all_of_their_steps():
    for task in MEMORY:
        for one in task.both:
            config = from_config_dict(nest_settings(make_settings(one, task.method, 1.0)))
            assert config.max_env_steps == one.budget and config.policy.network == one.settings["policy.network"]


SHIPPED = {
    "asterix": minatar_asterix,
    "breakout": minatar_breakout,
    "freeway": minatar_freeway,
    "space_invaders": minatar_space_invaders,
}


@pytest.mark.parametrize("task", GAMES, ids=lambda task: task.name)
def test_a_shipped_config_is_the_studys_method_with_one_of_its_settings(task):
    ours = [{**make_settings(task, HAEPO, 1.0), **setting, "num_seeds": FULL.seeds} for setting in HAEPO.settings()]
    for settings in ours:
        del settings["exploration.persistences"]  # segments do not read it, and PPO neither
    shipped = from_config_dict(SHIPPED[task.name].get_config().to_dict())
    assert shipped in [from_config_dict(nest_settings(settings)) for settings in ours]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_is_trained_and_written(tmp_path):
    smallest = dataclasses.replace(
        QUICK, seeds=1, part_seeds=1, budget=0.005, lengths=(1, 8), episodes=4, cnn_seeds=1, memory=MEMORY[:1]
    )
    page, headline = run_study(tmp_path, smallest)
    assert page.read_text().count("<figure>") == 4 and headline.startswith("Of 4 targets")
    assert len(list((tmp_path / "runs").rglob("seal.json"))) == smallest.runs

"""The study of many agents on made-up runs, whose numbers decide what it has to say; and small, with real training."""

import dataclasses
import json

import pytest
from helpers.made_up_agents import SHARPNESS, SMALL, count_agents, make_study
from helpers.made_up_runs import contents

from configs import switch_riddle, tic_tac_toe
from experiments.studies.agents import arms, peers, study
from experiments.studies.agents.arms import ARMS, GAME, NEWEST, POOL, SEGMENTS
from experiments.studies.agents.methods import ON_SIGNALS, ON_SPREAD, SEGMENTS_ON_RIDDLE, SETTINGS_PER_METHOD
from experiments.studies.agents.scale import FULL, QUICK
from experiments.studies.agents.study import PARTS, run_study
from experiments.studies.agents.tasks import SIMPLE_SPREAD, SWITCH_RIDDLE, make_signals_task
from experiments.studies.methods import nest_settings
from experiments.studies.suite.selection import TUNING_SEED, make_settings
from haepo_jax.analysis.verdicts import CONTRADICTED, REPRODUCED, UNDECIDED
from haepo_jax.config import from_config_dict, traced_settings
from haepo_jax.errors import ConfigError


def spread(seed):
    """A little, another one for each seed."""
    return 0.01 * (seed % 7)


class OursFirst:
    """Joint ranking and segments are ahead of all others; a pool makes play steadier and nearly perfect."""

    def level(self, config, member):
        best = {"jaxmarl:switch_riddle": 0.7, "jaxmarl:MPE_simple_spread_v3": -20.0}.get(config.env, 7.0)
        ahead = config.algorithm == "haepo" and config.haepo.joint == "joint" and config.haepo.score == "log_ratio"
        tuned = 0.1 * (member.settings.get("optimizer.learning_rate", 3e-3) == 3e-3)
        return best + (0 if ahead else -3.0) + tuned + spread(member.seed) / 10

    def share(self, config):
        return 0.4 if config.haepo.score == "sum" else 0.5 + 0.01 * count_agents(config)

    def policy(self, config, member):
        end = 0.1 if config.self_play.opponents == POOL else 0.4
        wobble = 0.0 if config.self_play.opponents == POOL else 0.2
        seed = member["seed"]
        return [0.9, 0.6, end + wobble + spread(seed), end + spread(seed)], 0.005, 0.02


class OursLast(OursFirst):
    """All that should be ahead is behind."""

    def level(self, config, member):
        return -super().level(config, member)

    def share(self, config):
        return 1.0 - 0.05 * count_agents(config)

    def policy(self, config, member):
        other = {POOL: NEWEST, NEWEST: POOL}[config.self_play.opponents]
        changed = dataclasses.replace(config, self_play=dataclasses.replace(config.self_play, opponents=other))
        return super().policy(changed, member)[0], 0.02, 0.3


BASELINE = {
    "code": "JaxMARL's IPPO",
    "env": "MPE_simple_spread_v3",
    "env_steps": 1000,
    "returns": [-30.0] * 5 + [-29.0],
}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    (folder / "ippo.json").write_text(json.dumps(BASELINE))
    peers.keep(folder / "w", [str(folder / "ippo.json")])
    return make_study(OursFirst(), folder)


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    return make_study(OursLast(), tmp_path_factory.mktemp("last"))


TARGETS = (
    "joint ranking is at each agent's own ranking",
    "joint ranking is at IPPO",
    "joint ranking is at MAPPO",
    "With 4 agents the effective sample size",
    "less exploitable in the end",
    "moves less from checkpoint to checkpoint",
    "loses under 1% against random play",
    "loses at most 5% against the perfect player",
    "The switch riddle is solved to 0.9",
    "On simple spread joint HAEPO",
    "On simple spread HAEPO with segments",
)


@pytest.mark.parametrize("words", TARGETS)
def test_every_target_is_reached_where_haepo_is_ahead_and_missed_where_it_is_behind(first, last, words):
    assert first.claim(words)["verdict"] == REPRODUCED
    assert last.claim(words)["verdict"] == CONTRADICTED


def test_the_headline_counts_the_targets_of_all_parts(first):
    assert first.verdicts["headline"].startswith("Of 11 targets: 11 reached, 0 missed")


def test_the_sample_size_has_a_row_for_each_ranking_and_number_of_agents(first):
    row = first.row("ranking", "joint HAEPO, 4 agents", 1)
    assert row["effective sample size, share"].startswith("0.54") and row["sharpness b"].startswith(str(SHARPNESS))
    assert first.row("ranking", "joint HAEPO, score sum, 2 agents", 1)["effective sample size, share"].startswith(
        "0.4"
    )


def test_settings_are_chosen_for_each_number_of_agents_on_tuning_seeds_alone(first):
    tuned = [config for config in first.configs if config.seed == TUNING_SEED]
    assert len(tuned) == len(ON_SIGNALS) * len(SMALL.numbers) + len(ON_SPREAD)
    assert len(first.configs) == sum(len(part.list_runs(SMALL)) for part in PARTS.values())
    by_hand = {task.settings["env"] for task in (GAME, SWITCH_RIDDLE)}
    reported = [config for config in first.configs if config.seed == 0 and config.env not in by_hand]
    assert {config.optimizer.learning_rate for config in reported} == {3e-3}


def test_self_play_has_the_same_settings_with_a_pool_and_without(first):
    played = [config for config in first.configs if config.env == GAME.settings["env"] and config.num_seeds == 6]
    assert len(played) == len(ARMS) == 12
    opponents = {POOL: set(), NEWEST: set()}
    for config in played:
        same = dataclasses.replace(config, self_play=dataclasses.replace(config.self_play, opponents="random"))
        opponents[config.self_play.opponents].add(repr(same))
    assert opponents[POOL] == opponents[NEWEST] and len(opponents[POOL]) == 6


def test_exploitability_in_the_end_is_that_of_the_later_half_of_the_checkpoints(first):
    row = first.row("self-play", "HAEPO with segments, against the newest self alone")
    assert row["exploitability"].startswith("0.52") and row["its deviation"].startswith("0.1")
    assert row["a later self is worse"].startswith("0.167")  # one of six pairs
    assert row["lost to the perfect player, greedy"].startswith("0.02")
    assert row["effective sample size, share"]
    assert not first.row("self-play", "PPO, with a pool")["effective sample size, share"]


def test_jaxmarls_baseline_is_compared_with_where_its_numbers_were_given(first, last):
    assert first.row("simple-spread", "JaxMARL's IPPO")["return"].startswith("-30")
    assert "JaxMARL's IPPO" in first.claim("On simple spread joint HAEPO")["evidence"]
    assert "JaxMARL's IPPO" not in last.claim("On simple spread joint HAEPO")["evidence"]
    assert "baseline was not run" in last.page


def test_the_riddle_is_judged_by_segments_and_shows_whole_episodes_and_ppo_beside_them(first, last):
    table = first.tables["switch-riddle"][0]
    assert [row[0] for row in table["rows"]] == ["HAEPO with segments", "joint HAEPO", "MAPPO"]
    assert first.row("switch-riddle", "MAPPO")["return"].startswith("-2.")
    assert "HAEPO with segments: of 8 seeds 8 come to 0.9" in first.page
    assert "HAEPO with segments: of 8 seeds 0 come to 0.9" in last.page


def test_a_quick_study_decides_nothing(tmp_path):
    made = make_study(OursLast(), tmp_path, dataclasses.replace(SMALL, quick=True), ["self_play"])
    assert {claim["verdict"] for claim in made.verdicts["claims"]} == {UNDECIDED}


def test_a_part_that_was_not_asked_for_is_shown_once_its_runs_are_there_and_repeated_never(tmp_path):
    alone = make_study(OursFirst(), tmp_path, parts=["switch_riddle"])
    assert list(alone.tables) == ["switch-riddle"] and "Joint ranking is left out" in alone.page
    before = contents(tmp_path / "w" / "runs")
    both = make_study(OursFirst(), tmp_path, parts=["self_play"], installed=False)
    assert list(both.tables) == ["self-play", "switch-riddle"]
    assert before.items() <= contents(tmp_path / "w" / "runs").items()


def test_parts_without_their_library_are_refused_where_nothing_else_was_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="jaxmarl is not installed"):
        make_study(OursFirst(), tmp_path, parts=["simple_spread"], installed=False)


@pytest.mark.parametrize("method", ON_SIGNALS, ids=lambda method: method.name)
def test_all_methods_for_teams_have_as_many_settings_of_one_program_and_the_same_steps(method):
    assert len(method.settings()) == SETTINGS_PER_METHOD
    task = make_signals_task(4)
    config = from_config_dict(nest_settings(make_settings(task, method, 1.0)))
    assert set(method.grid) <= set(traced_settings(config))
    assert (config.num_updates, config.max_env_steps, config.num_trajectories) == (
        -(-task.budget // 512),
        task.budget,
        64,
    )


@pytest.mark.parametrize("method", ON_SPREAD, ids=lambda method: method.name)
def test_all_methods_play_as_many_updates_of_simple_spread(method):
    config = from_config_dict(nest_settings(make_settings(SIMPLE_SPREAD, method, 1.0)))
    assert config.num_updates == -(-SIMPLE_SPREAD.budget // (64 * 26))


def test_the_newest_of_the_pool_is_what_the_periodic_reference_copies():
    (periodic,) = [method for method in arms.REFERENCES if method.base["haepo.reference"] == "periodic"]
    for opponents in arms.OPPONENTS:
        config = from_config_dict(nest_settings(arms.Arm(periodic, opponents).make_settings(1.0)))
        assert config.haepo.reference_period == config.self_play.snapshot_every


def test_the_shipped_configs_are_what_the_study_trains_on_many_seeds():
    ours = {**arms.Arm(SEGMENTS, NEWEST).make_settings(1.0), "num_seeds": FULL.many_seeds}
    assert from_config_dict(nest_settings(ours)) == from_config_dict(tic_tac_toe.get_config().to_dict())
    ours = {**make_settings(SWITCH_RIDDLE, SEGMENTS_ON_RIDDLE, 1.0), "num_seeds": FULL.many_seeds}
    assert from_config_dict(nest_settings(ours)) == from_config_dict(switch_riddle.get_config().to_dict())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"code": "IPPO"}, "has no env"),
        ({**BASELINE, "returns": []}, "holds no return"),
        ({**BASELINE, "env": "../x"}, "must be the name of an environment"),
    ],
)
def test_a_baseline_that_is_none_is_refused(tmp_path, given, words):
    (tmp_path / "one.json").write_text(json.dumps(given))
    with pytest.raises(ConfigError, match=words):
        peers.keep(tmp_path / "w", [str(tmp_path / "one.json")])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_study_is_trained_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "can_run", lambda directory, task, names: False)  # whatever is installed
    smallest = dataclasses.replace(QUICK, numbers=(2,), seeds=1, many_seeds=1, enough_seeds=1, budget=0.02, episodes=4)
    page, headline = run_study(tmp_path, smallest)
    assert page.read_text().count("<figure>") == 4 and headline.startswith("Of 8 targets")
    assert "jaxmarl is not installed" in headline
    runs = len(list((tmp_path / "runs").rglob("seal.json")))
    assert runs == sum(len(PARTS[name].list_runs(smallest)) for name in ("ranking", "self_play"))
    assert not list((tmp_path / "runs").rglob("checkpoints"))

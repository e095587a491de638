"""Runs of self-play: they resume to the same bits, and their policies play against one another."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers.command_runner import run as run_command
from helpers.run_folders import TINY, assert_same_end, checkpoints, cut_off, table
from helpers.settings import fixed_config
from pyarrow import parquet

from haepo_jax.analysis.ratings import ELO, rate
from haepo_jax.errors import ConfigError
from haepo_jax.reports import cross_play as report
from haepo_jax.runs import opponents
from haepo_jax.runs.cross_play import ALL, Contestant, CrossPlay, play_all
from haepo_jax.runs.experiment import run
from haepo_jax.runs.states import load_states

SELF_PLAY = {"opponents": "pool", "pool_size": 2, "snapshot_every": 2, "draw": "win_rate", "random_share": 0.3}
CONFIG = TINY | {"env": "TicTacToe-haepo", "num_updates": 6, "num_trajectories": 8, "self_play": SELF_PLAY}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self_play") / "run"
    run(fixed_config(CONFIG), folder, checkpoint_seconds=0, keep_checkpoints_every=2)
    return folder


def load_arrays(folder, checkpoint):
    ((population, state, update),) = load_states(folder, checkpoint)
    assert update == checkpoint
    return population.to_host(state)


@pytest.mark.slow
def test_a_run_with_a_pool_that_was_cut_off_resumes_to_the_same_bits(finished, tmp_path):
    folder = cut_off(finished, tmp_path / "run", 4)
    assert run(fixed_config(CONFIG), folder)
    assert_same_end(finished, folder)


@pytest.mark.slow
def test_the_pool_of_a_member_holds_its_own_policies_as_they_were(finished):
    states = {update: load_arrays(finished, update) for update in (2, 4, 6)}
    pool = states[6].opponents
    assert pool.update.tolist() == [[4, 6]] * 2 and (states[4].opponents.update == [[4, 2]] * 2).all()
    assert (states[2].opponents.points[:, 0] != 0.5).any()  # of the first policy, which has been met
    for place, update in ((0, 4), (1, 6)):
        pairs = zip(jax.tree.leaves(pool.params), jax.tree.leaves(states[update].learner.params), strict=True)
        for kept, was in pairs:
            np.testing.assert_array_equal(kept[:, place], was)


def test_its_rows_say_how_games_ended_and_against_whom(finished):
    rows = table(finished)
    ends = [rows[name].to_numpy() for name in ("win_rate", "draw_rate", "loss_rate")]
    np.testing.assert_allclose(sum(ends), 1, rtol=1e-6)
    assert {"points_random", "points_pool", "points_newest"} <= set(rows.column_names)
    assert not any(name.startswith("games_") for name in rows.column_names)


def test_ratings_and_games_are_written_and_drawn(tmp_path):
    """Games of one member, random play and the perfect player, of which the last two did not meet."""
    players = (
        Contestant("member 0", 0, 7, 6),
        *(Contestant(name, None, None, None) for name in ("random", "perfect")),
    )
    games, wins, draws = np.zeros((3, 3, 3), np.int64)
    games[0, 1:] = games[1:, 0] = 10
    wins[0, 1], wins[1, 0], wins[2, 0] = 7, 1, 6
    draws[0, 1], draws[1, 0], draws[0, 2], draws[2, 0] = 2, 2, 4, 4
    never_lost = np.array([[0, 1000], [1000, 0]]), np.array([[0, 934], [0, 0]]), np.array([[0, 66], [66, 0]])
    undecided = report.rate_all(CrossPlay("ConnectFour-haepo", players[:2], *never_lost))
    assert next(iter(report.make_ratings_table(undecided).columns[4].cells)).plain == "93.4% 6.6% 0.0%"
    rated = report.rate_all(CrossPlay("TicTacToe-haepo", players, games, wins, draws))
    folder = report.write(tmp_path, rated)
    rows, ratings = (parquet.read_table(folder / name).to_pylist() for name in (report.GAMES, report.RATINGS))
    assert len(rows) == 4
    assert rows[0] == {"player": "member 0", "opponent": "random", "games": 10, "wins": 7, "draws": 2, "losses": 1}
    assert rows[3] == {"player": "perfect", "opponent": "member 0", "games": 10, "wins": 6, "draws": 4, "losses": 0}
    assert [row["player"] for row in ratings] == ["perfect", "member 0", "random"] and ratings[2]["elo"] == 0
    assert [row["points"] for row in ratings] == [0.8, (8 + 2) / 20, 0.2] and ratings[1]["seed"] == 7
    np.testing.assert_allclose(ratings[1]["elo"], ELO * np.subtract(*rate(wins + draws / 2).values[:2]))
    assert (folder / report.FIGURE).read_bytes().startswith(b"<?xml")
    table = report.make_ratings_table(rated)
    assert list(table.columns[4].cells)[1].plain == "70.0% 20.0% 10.0%"


@pytest.fixture(scope="module")
def played(finished):
    return play_all(finished, games=40, checkpoints=[ALL])


@pytest.mark.slow
def test_all_members_and_checkpoints_play_against_one_another_and_those_that_stay_the_same(finished, played):
    names = [player.name for player in played.players]
    expected = [f"member {member}, update {update}" for update in checkpoints(finished) for member in range(2)]
    assert names == [*expected, "random", "perfect"]
    num = len(names)
    games = np.full((num, num), 40)
    np.fill_diagonal(games, 0)
    games[-2:, -2:] = 0
    np.testing.assert_array_equal(played.games, games)
    np.testing.assert_array_equal(played.wins + played.draws + played.wins.T, games)
    np.testing.assert_array_equal(played.draws, played.draws.T)
    assert (
        played.wins[:-2, -1].sum() == 0 and played.wins[-1, :-2].sum() > 60
    )  # nobody wins against the perfect player


@pytest.mark.slow
def test_greedy_games_and_other_seeds_are_others_and_the_same_ones_are_the_same(finished, played):
    again, other, greedy = (
        play_all(finished, games=40, checkpoints=[ALL]),
        play_all(finished, games=40, checkpoints=[ALL], seed=1),
        play_all(finished, games=40, checkpoints=[ALL], greedy=True),
    )
    np.testing.assert_array_equal(again.wins, played.wins)
    assert (other.wins != played.wins).any() and (greedy.wins != played.wins).any()
    assert np.isin(greedy.wins[0, 1], range(41))


@pytest.mark.slow
def test_the_command_prints_ratings_and_a_run_of_another_task_is_refused(finished, tmp_path):
    done = run_command("experiments.cross_play", f"--workdir={finished}", "--games=10")
    assert done.code == 0, done.err
    assert "The strongest is perfect" in done.out and "won, drawn, lost against random" in done.out
    other = tmp_path / "bandit"
    run(fixed_config(TINY), other)
    refused = run_command("experiments.cross_play", f"--workdir={other}")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "a run of GaussianBandit-haepo, in which nobody plays against another one" in refused.err


@pytest.mark.slow
def test_a_policy_of_another_run_is_an_opponent(finished, tmp_path):
    fixed = {
        "opponents": "haepo_jax.runs.opponents:make_trained_player",
        "opponents_kwargs": {"workdir": str(finished)},
    }
    run(fixed_config(CONFIG | {"self_play": fixed | {"random_share": 0.0}}), tmp_path / "run")
    assert np.isfinite(table(tmp_path / "run")["points_fixed"].to_numpy()).all()


def test_a_policy_that_cannot_be_an_opponent_is_refused_as_what_it_is_to_be(tmp_path, monkeypatch):
    named = r"opponent of config\.self_play\.opponents_kwargs cannot be loaded: --workdir .* holds no"
    with pytest.raises(ConfigError, match=named):
        opponents.make_trained_player(str(tmp_path / "gone"))
    monkeypatch.setattr(opponents, "load_policy", lambda *_: SimpleNamespace(remembers=True))
    with pytest.raises(ConfigError, match=r"member 0 of runs/gru remembers the episode"):
        opponents.make_trained_player("runs/gru")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no good checkpoint"):
        play_all(tmp_path, games=1, checkpoints=[ALL])

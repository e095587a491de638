"""Exact results of tic-tac-toe, beside all games played out one by one in Python."""

import functools

import jax
import numpy as np
import pytest

from haepo_jax.environments.games import exact
from haepo_jax.environments.games.lines import list_lines, make_tic_tac_toe
from haepo_jax.environments.games.perfect import POWERS

LINES = list_lines(3, 3, 3)
PLACES = {tuple(map(int, cells)): place for place, cells in enumerate(exact.list_positions().cells)}


@pytest.fixture(scope="module")
def uneven():
    """Two players whose chances are uneven in every position."""
    legal = exact.list_positions().is_legal
    weights = np.random.default_rng(0).exponential(size=(2, *legal.shape)) ** 3 * legal
    return weights / weights.sum(axis=-1, keepdims=True)


def blunder(cells, move):
    """The perfect player but for one position, in which it makes one move."""
    table = exact.make_perfect_table()
    table[PLACES[cells]] = np.eye(9)[move]
    return table


def swap(cells):
    return tuple((0, 2, 1)[cell] for cell in cells)


def play_out(tables, cells=(0,) * 9, mover=0):
    """The chances of `(first wins, draw, second wins)`, by recursion over all games from a position."""
    total = np.zeros(3)
    for move in range(9):
        if cells[move]:
            continue
        chance = tables[mover][PLACES[cells], move]
        after = (*cells[:move], 1, *cells[move + 1 :])
        if (np.array(after)[LINES] == 1).all(axis=1).any():
            total[2 * mover] += chance
        elif 0 not in after:
            total[1] += chance
        elif chance:
            total += chance * play_out(tables, swap(after), 1 - mover)
    return total


def best_answer(table, seat):
    """The most that anybody who moves in this seat makes against a player, by recursion."""

    @functools.cache
    def value(cells, mover):
        reached = {}
        for move in (move for move in range(9) if not cells[move]):
            after = (*cells[:move], 1, *cells[move + 1 :])
            if (np.array(after)[LINES] == 1).all(axis=1).any():
                reached[move] = 1.0 if mover == seat else -1.0
            else:
                reached[move] = value(swap(after), 1 - mover) if 0 in after else 0.0
        if mover == seat:
            return max(reached.values())
        return sum(table[PLACES[cells], move] * worth for move, worth in reached.items())

    return value((0,) * 9, 0)


def test_ends_are_those_of_all_games_played_out_one_by_one(uneven):
    greedy = exact.make_greedy(uneven)  # few games, so that recursion takes no time
    one, other = greedy[0], uneven[1]
    ends = exact.compute_ends(one, other)
    np.testing.assert_allclose(ends[0], play_out((one, other)), atol=1e-12)
    np.testing.assert_allclose(ends[1], play_out((other, one))[::-1], atol=1e-12)
    assert ends.min() > 0 and ends.sum(axis=-1) == pytest.approx(1)


def test_ends_seen_by_the_other_player_are_the_same_games(uneven):
    one, other = exact.compute_ends(*uneven), exact.compute_ends(*uneven[::-1])
    np.testing.assert_allclose(one, other[::-1, ::-1], atol=1e-12)


def test_exploitability_is_that_of_the_best_answer_found_by_recursion(uneven):
    found = exact.compute_exploitability(uneven)
    assert found.shape == (2, 2)
    for table, values in zip(uneven, found, strict=True):
        assert values == pytest.approx([best_answer(table, seat) for seat in (0, 1)])
    assert found.min() > 0.5


def test_nobody_beats_the_perfect_player_and_it_never_loses(uneven):
    perfect = exact.make_perfect_table()
    assert exact.compute_exploitability(perfect).tolist() == [0.0, 0.0]
    assert exact.compute_ends(perfect, uneven)[..., exact.LOSS].max() == 0.0


def test_one_blunder_costs_what_the_answer_that_leads_there_wins():
    """An edge in answer to a stone in the middle loses for sure, and whoever moves second cannot ask for it."""
    middle = (0, 0, 0, 0, 2, 0, 0, 0, 0)
    assert exact.compute_exploitability(blunder(middle, 1)).tolist() == [1.0, 0.0]


def test_the_best_answer_to_random_play_is_what_is_known_of_it():
    """Whoever moves first draws or loses 1 game in 192 against it, at best."""
    first, second = exact.compute_exploitability(exact.make_random_table())
    assert first == pytest.approx(191 / 192) and second == pytest.approx(0.92487, abs=1e-5)


def test_players_side_by_side_come_to_what_they_do_alone(uneven):
    many = exact.compute_ends(uneven[:, None], uneven[None])
    assert many.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(many[0, 1], exact.compute_ends(uneven[0], uneven[1]), atol=1e-12)


def test_greedy_players_take_the_likeliest_move(uneven):
    greedy = exact.make_greedy(uneven)
    np.testing.assert_array_equal(greedy.argmax(-1), uneven.argmax(-1))
    assert np.unique(greedy).tolist() == [0.0, 1.0]


def test_positions_are_seen_as_the_game_shows_them_to_who_is_to_move():
    game, observations = make_tic_tac_toe(), exact.list_observations()
    board = game.begin(jax.random.key(0))
    for action in (4, 0, 8, 2, 1):
        player = int(game.find_player(board))
        seen = np.asarray(game.observe(board, player), np.int64).reshape(9, 2)
        place = PLACES[tuple(map(int, seen @ [1, 2]))]
        np.testing.assert_array_equal(observations[place, :18], seen.reshape(-1))
        np.testing.assert_array_equal(observations[place, 18:], np.asarray(game.find_legal(board)))
        board = game.move(board, action)


def test_a_position_leads_to_what_a_move_makes_of_it():
    positions = exact.list_positions()
    assert len(positions.cells) == 5478 - 958
    ends = len(positions.cells)
    counts = {name: int((positions.after == value).sum()) for name, value in (("won", ends), ("drawn", ends + 1))}
    assert counts["won"] > counts["drawn"] > 0 and ((positions.after < 0) == (positions.cells > 0)).all()
    assert [layer.stop - layer.start for layer in positions.layers][:3] == [1, 9, 72]
    assert POWERS.sum() * 2 == 3**9 - 1

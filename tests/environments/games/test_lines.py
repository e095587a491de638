"""Tic-tac-toe and connect four: their rules, and pgx's own step by step."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.library_steps import play

from haepo_jax.environments import Discrete, make
from haepo_jax.environments.games.lines import EMPTY, draw_board, list_lines, make_connect_four, make_tic_tac_toe
from haepo_jax.errors import ConfigError

PAIRS = {"TicTacToe-haepo": "pgx:tic_tac_toe", "ConnectFour-haepo": "pgx:connect_four"}


def play_moves(game, moves, seed=0):
    """The state after moves of both players in turn, and who moved first."""
    state = game.begin(jax.random.key(seed))
    first = int(state.player)
    move = jax.jit(game.move)
    for action in moves:
        state = move(state, jnp.int32(action))
    return state, first


@pytest.mark.parametrize(
    ("make_game", "moves", "winner"),
    [
        (make_tic_tac_toe, [0, 3, 1, 4, 2], 0),  # a row
        (make_tic_tac_toe, [0, 2, 1, 4, 3, 6], 1),  # a diagonal, of who moved second
        (make_tic_tac_toe, [0, 1, 2, 4, 3, 5, 7, 6, 8], None),  # full
        (make_connect_four, [3, 2, 3, 2, 3, 2, 3], 0),  # a column
        (make_connect_four, [0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3], 0),  # a diagonal
    ],
)
def test_who_has_a_whole_line_wins_and_a_full_board_without_one_is_drawn(make_game, moves, winner):
    game = make_game()
    state, _ = play_moves(game, moves[:-1])
    assert not game.is_over(state) and not state.rewards.any()
    state, first = play_moves(game, moves)
    assert game.is_over(state)
    expected = np.zeros(2) if winner is None else np.where(np.arange(2) == (first + winner) % 2, 1, -1)
    np.testing.assert_array_equal(game.get_rewards(state), expected)
    after = game.move(state, jnp.int32(moves[0]))
    np.testing.assert_array_equal(after.cells, state.cells)
    assert game.is_over(after) and not after.rewards.any()


def test_a_stone_falls_and_a_full_column_is_not_allowed():
    game = make_connect_four()
    state, first = play_moves(game, [0, 1, 0, 0, 0, 0, 0])
    # The second stone lies in column 1, so that the other five of column 0 alternate above the first.
    assert state.cells[::-1, 0].tolist() == [first, first, 1 - first, first, 1 - first, first]
    assert state.cells[5, 1] == 1 - first and state.cells[4, 1] == EMPTY
    assert game.find_legal(state).tolist() == [False] + [True] * 6


def test_a_player_sees_its_own_stones_first_and_either_is_the_first_to_move_as_often():
    game = make_tic_tac_toe()
    state, first = play_moves(game, [4])
    seen = [game.observe(state, player) for player in (first, 1 - first)]
    assert seen[0][1, 1].tolist() == [True, False] and seen[1][1, 1].tolist() == [False, True]
    begun = jax.vmap(game.begin)(jax.random.split(jax.random.key(0), 1000))
    assert 450 < int(begun.player.sum()) < 550


def test_lines_are_those_of_the_rules():
    assert sorted(map(tuple, list_lines(3, 3, 3).tolist())) == [
        *((0, 1, 2), (0, 3, 6), (0, 4, 8), (1, 4, 7), (2, 4, 6), (2, 5, 8), (3, 4, 5), (6, 7, 8)),
    ]


def test_a_board_is_drawn_in_the_colours_of_its_players():
    state, _ = play_moves(make_tic_tac_toe(), [0, 8])
    picture = draw_board(jax.device_get(state))
    colours = {tuple(picture[8 + 16 * row, 8 + 16 * row]) for row in (0, 2)}
    assert picture.shape == (48, 48, 3) and len(colours) == 2 and tuple(picture[8, 24]) == (230, 230, 230)


def test_a_game_has_the_horizon_of_one_player_and_no_arguments():
    environment = make("ConnectFour-haepo")
    assert environment.max_steps == 21 and environment.action_space == Discrete(7)
    assert environment.feature_shape == (6, 7, 2) and environment.mask_size == 7
    with pytest.raises(ConfigError, match=r"config.env_kwargs.rows is not an argument"):
        make("ConnectFour-haepo", (("rows", 4),))


@pytest.mark.skipif(importlib.util.find_spec("pgx") is None, reason="needs the extra pgx")
@pytest.mark.parametrize("ours", PAIRS)
@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_of_pgx(ours, seed):
    one, other = (play(make(name), seed=seed) for name in (ours, PAIRS[ours]))
    for own, theirs in zip(one[:-1], other[:-1], strict=True):
        np.testing.assert_array_equal(own, theirs)
    assert one.done[-1] and make(ours).max_steps == make(PAIRS[ours]).max_steps

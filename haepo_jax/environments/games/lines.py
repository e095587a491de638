"""Games of stones in a row: tic-tac-toe and connect four, in the rules and arrays of pgx (Koyamada et al. 2023)."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.environments.games.interface import LEARNER, Game

EMPTY = -1
"""Of a cell of the board; else the player whose stone lies there."""


class Board(NamedTuple):
    """A position."""

    cells: jax.Array
    """`[rows, columns]` int8."""
    player: jax.Array
    """int32, whose turn it is."""
    rewards: jax.Array
    """`[2]` float32, of the last move."""
    is_over: jax.Array
    """boolean."""


@functools.cache
def make_tic_tac_toe() -> Game:
    """Makes tic-tac-toe: three in a row on 3 x 3 cells; action `3 row + column`."""
    return _make_line_game("TicTacToe-haepo", rows=3, columns=3, length=3, falls=False)


@functools.cache
def make_connect_four() -> Game:
    """Makes connect four: four in a row on 6 x 7 cells; action `column`, in which a stone falls as low as it can."""
    return _make_line_game("ConnectFour-haepo", rows=6, columns=7, length=4, falls=True)


def _make_line_game(name: str, *, rows: int, columns: int, length: int, falls: bool) -> Game:
    """Makes the game that the first to have `length` stones in a row wins. Row 0 is at the top."""
    lines = list_lines(rows, columns, length)

    def begin(key: jax.Array) -> Board:
        player = jax.random.bernoulli(key).astype(jnp.int32)
        cells = jnp.full((rows, columns), EMPTY, jnp.int8)
        return Board(cells, player, jnp.zeros(2, jnp.float32), jnp.bool_(False))

    def move(board: Board, action: jax.Array) -> Board:
        if falls:
            row = jnp.sum(board.cells[:, action] == EMPTY) - 1
            cells = board.cells.at[row, action].set(board.player.astype(jnp.int8))
        else:
            cells = board.cells.at[action // columns, action % columns].set(board.player.astype(jnp.int8))
        wins = jnp.any(jnp.all(cells.reshape(-1)[lines] == board.player.astype(jnp.int8), axis=-1))
        own = jnp.where(jnp.arange(2) == board.player, 1.0, -1.0)
        over = board.is_over
        return Board(
            jnp.where(over, board.cells, cells),
            jnp.where(over, board.player, 1 - board.player),
            jnp.where(over | ~wins, 0.0, own).astype(jnp.float32),
            over | wins | jnp.all(cells != EMPTY),
        )

    def observe(board: Board, player: int) -> jax.Array:
        return jnp.stack([board.cells == player, board.cells == 1 - player], axis=-1)

    def find_legal(board: Board) -> jax.Array:
        free = board.cells[0] == EMPTY if falls else (board.cells == EMPTY).reshape(-1)
        return free | board.is_over

    return Game(
        name=name,
        observation_shape=(rows, columns, 2),
        num_actions=columns if falls else rows * columns,
        max_moves=rows * columns,
        begin=begin,
        move=move,
        find_player=lambda board: board.player,
        is_over=lambda board: board.is_over,
        get_rewards=lambda board: board.rewards,
        observe=observe,
        find_legal=find_legal,
        draw=draw_board,
    )


def list_lines(rows: int, columns: int, length: int) -> np.ndarray:
    """Lists the lines of `length` cells, across, down and in both diagonals, `[lines, length]` numbers of cells.

    Example:
      >>> len(list_lines(3, 3, 3)), len(list_lines(6, 7, 4))
      (8, 69)
    """
    found = []
    for (down, right), row, column in itertools.product(
        ((0, 1), (1, 0), (1, 1), (1, -1)), range(rows), range(columns)
    ):
        line = [(row + k * down, column + k * right) for k in range(length)]
        if all(0 <= r < rows and 0 <= c < columns for r, c in line):
            found.append([r * columns + c for r, c in line])
    return np.array(found)


def draw_board(board: Board) -> np.ndarray:
    """Draws a position: blue for the learner's stones, orange for the opponent's, `[height, width, 3]` uint8."""
    cells = np.asarray(board.cells)
    size = 16
    colours = np.array([[230, 230, 230], [31, 119, 180], [255, 127, 14]], np.uint8)
    picture = np.full((size * cells.shape[0], size * cells.shape[1], 3), 255, np.uint8)
    for row, column in np.ndindex(cells.shape):
        stone = 0 if cells[row, column] == EMPTY else 1 if cells[row, column] == LEARNER else 2
        picture[row * size + 1 : (row + 1) * size - 1, column * size + 1 : (column + 1) * size - 1] = colours[stone]
    return picture

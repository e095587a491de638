"""Tic-tac-toe between players whose chances are known in every position: what they come to, exactly.

A player is a table `[..., P, 9]`, the chance of each move in each of the P positions that are not over. Leading axes
are players side by side.
"""

import functools
from typing import NamedTuple

import numpy as np

from haepo_jax.environments.games.lines import list_lines
from haepo_jax.environments.games.perfect import CELLS, POWERS, find_best_moves

WIN, DRAW, LOSS = range(3)
"""Ends of a game, by their place in `compute_ends`."""
_ENDS = np.eye(3)
_SEEN_BY_THE_OTHER = np.array([0, 2, 1])


class Positions(NamedTuple):
    """The P = 4,520 positions in which the game is not over, as who is to move sees them, by their stones."""

    cells: np.ndarray
    """`[P, 9]`: 0 empty, 1 a stone of who is to move, 2 of the other."""
    after: np.ndarray
    """`[P, 9]` the position that a move leads to; P where it wins the game, P + 1 where it ends it in a draw, and -1
    where it is not allowed."""
    layers: tuple[slice, ...]
    """The positions with 0, 1, ... 8 stones: with an even number the player who began is to move."""

    @property
    def is_legal(self) -> np.ndarray:
        """`[P, 9]` boolean."""
        return self.cells == 0


@functools.cache
def list_positions() -> Positions:
    """Lists the positions of tic-tac-toe that are not over."""
    cells = np.array([number // POWERS % 3 for number in find_best_moves()])
    cells = cells[np.argsort((cells > 0).sum(axis=1), kind="stable")]
    place = {int(number): index for index, number in enumerate(cells @ POWERS)}
    lines, after = list_lines(3, 3, 3), np.full(cells.shape, -1)
    for index, cell in np.argwhere(cells == 0):
        moved = cells[index].copy()
        moved[cell] = 1
        if (moved[lines] == 1).all(axis=1).any():
            after[index, cell] = len(cells)
        elif (moved > 0).all():
            after[index, cell] = len(cells) + 1
        else:
            after[index, cell] = place[int(_SEEN_BY_THE_OTHER[moved] @ POWERS)]
    begins = np.searchsorted((cells > 0).sum(axis=1), range(CELLS + 1))
    return Positions(cells, after, tuple(map(slice, begins[:-1], begins[1:])))


def list_observations() -> np.ndarray:
    """Lists what who is to move sees in each position, `[P, 27]` float32, as `TicTacToe-haepo` shows it."""
    positions = list_positions()
    stones = np.stack([positions.cells == 1, positions.cells == 2], axis=-1).reshape(len(positions.cells), -1)
    return np.concatenate([stones, positions.is_legal], axis=-1).astype(np.float32)


def make_random_table() -> np.ndarray:
    """Makes the player that draws its moves evenly, `[P, 9]`."""
    return _draw_evenly(list_positions().is_legal)


def make_perfect_table() -> np.ndarray:
    """Makes the perfect player, which draws evenly among the best moves, `[P, 9]`."""
    best = find_best_moves()
    return _draw_evenly(np.array([best[int(number)] for number in list_positions().cells @ POWERS]))


def make_greedy(table: np.ndarray) -> np.ndarray:
    """Makes the players that take the likeliest move, the first of those that are as likely."""
    return np.eye(CELLS)[np.argmax(table, axis=-1)]


def compute_ends(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the chances that a game between two players ends so.

    Args:
      one: `[..., P, 9]`.
      other: `[..., P, 9]`; leading axes are broadcast against each other.

    Returns:
      `[..., 2, 3]` float64: `one` moves first or second; it wins, draws or loses.

    Example:
      >>> first, second = compute_ends(make_random_table(), make_random_table())
      >>> [round(float(chance), 3) for chance in (first[WIN], first[DRAW], second[WIN])]
      [0.585, 0.127, 0.288]
    """
    positions = list_positions()
    many = len(positions.cells)
    batch = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    found = []
    for seat in (0, 1):
        reached = np.zeros((*batch, many + 2, 3))
        reached[..., many + 1, :] = _ENDS[DRAW]
        for stones, layer in reversed(list(enumerate(positions.layers))):
            moves = stones % 2 == seat
            reached[..., many, :] = _ENDS[WIN if moves else LOSS]
            chances = (one if moves else other)[..., layer, :]
            # A move that is not allowed has no chance, whatever it is taken to lead to.
            reached[..., layer, :] = np.einsum("...pm,...pme->...pe", chances, reached[..., positions.after[layer], :])
        found.append(reached[..., 0, :])
    return np.stack(found, axis=-2)


def compute_exploitability(table: np.ndarray) -> np.ndarray:
    """Computes what the best answer to a player is worth to who gives it: its wins less its losses in a game.

    Args:
      table: `[..., P, 9]`.

    Returns:
      `[..., 2]` float64, the best answer moving first or second. As perfect play of both is a draw, each is at least
      0, and the player that nobody can beat has 0.

    Example:
      >>> compute_exploitability(make_perfect_table()).tolist()
      [0.0, 0.0]
    """
    positions = list_positions()
    many, legal = len(positions.cells), positions.is_legal
    found = []
    for seat in (0, 1):
        value = np.zeros((*table.shape[:-2], many + 2))  # to who answers; a draw is 0
        for stones, layer in reversed(list(enumerate(positions.layers))):
            answers = stones % 2 == seat
            value[..., many] = 1.0 if answers else -1.0
            reached = value[..., positions.after[layer]]
            if answers:
                value[..., layer] = np.where(legal[layer], reached, -np.inf).max(axis=-1)
            else:
                value[..., layer] = (table[..., layer, :] * reached).sum(axis=-1)
        found.append(value[..., 0])
    return np.stack(found, axis=-1)


def _draw_evenly(allowed: np.ndarray) -> np.ndarray:
    return allowed / allowed.sum(axis=-1, keepdims=True)

"""The perfect player of tic-tac-toe, by minimax over all 5,478 positions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.environments.games.lines import list_lines
from haepo_jax.errors import ConfigError

KNOWN = ("TicTacToe-haepo", "pgx:tic_tac_toe")
"""The names of the games that the perfect player knows; another one may have observations of the same shape."""
CELLS = 9
POWERS = 3 ** np.arange(CELLS)
"""A position is a number in base 3, a digit for each cell: 0 empty, 1 a stone of who is to move, 2 of the other."""


@functools.cache
def find_best_moves() -> dict[int, np.ndarray]:
    """Finds the best moves in each position in which the game is not over, by its number.

    Returns:
      `[9]` boolean by number of the position.
    """
    lines = list_lines(3, 3, 3)
    best: dict[int, np.ndarray] = {}
    values: dict[int, int] = {}

    def evaluate(cells: np.ndarray) -> int:
        """The end that the player to move can reach: 1 won, 0 drawn, -1 lost."""
        number = int(cells @ POWERS)
        if number not in values:
            if (cells[lines] == 2).all(axis=1).any():  # the other one has just won
                values[number] = -1
            elif (cells > 0).all():
                values[number] = 0
            else:
                reached = np.full(CELLS, -2)
                for cell in np.flatnonzero(cells == 0):
                    after = cells.copy()
                    after[cell] = 1
                    reached[cell] = -evaluate(np.array([0, 2, 1])[after])  # seen by the other one
                values[number] = int(reached.max())
                best[number] = reached == reached.max()
        return values[number]

    evaluate(np.zeros(CELLS, np.int64))
    return best


def make_perfect_player() -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Makes the player that chooses evenly among the best moves of tic-tac-toe.

    Returns:
      `(observation, key) -> action`, of the observations of `TicTacToe-haepo` and `pgx:tic_tac_toe`.
    """
    table = np.ones((3**CELLS, CELLS), bool)
    for number, moves in find_best_moves().items():
        table[number] = moves

    def act(observation: jax.Array, key: jax.Array) -> jax.Array:
        if observation.shape != (3 * CELLS,):
            raise ConfigError(
                f"the perfect player knows tic-tac-toe alone, whose observations have shape (27,), not "
                f"{observation.shape}."
            )
        own, other = observation[: 2 * CELLS].reshape(CELLS, 2).T
        number = jnp.sum((own + 2 * other).astype(jnp.int32) * POWERS)
        logits = jnp.where(jnp.asarray(table)[number], 0.0, -jnp.inf)
        return jax.random.categorical(key, logits).astype(jnp.int32)

    return act

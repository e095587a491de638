"""What the rest of the package sees of a two-player game in turns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

LEARNER, OPPONENT = 0, 1
"""The two players. Who moves first is drawn when a game begins."""


class Game(NamedTuple):
    """Pure functions of a game of two players who move in turn, to be vmapped, and its shapes.

    The two move strictly in turn: where a player cannot move, to pass is a move. No game ends with its first move, and
    what one player wins the other one loses.
    """

    name: str
    """Of a game that a config names, that name takes its place."""
    observation_shape: tuple[int, ...]
    """Of what a player sees, without the action mask."""
    num_actions: int
    max_moves: int | None
    """The most moves of both players together; None where there is no such number, and `config.horizon` says how many
    moves of the learner a game may take."""
    begin: Callable[[jax.Array], Any]
    """`key -> state`, each of the two players being the first to move as often."""
    move: Callable[[Any, jax.Array], Any]
    """`(state, action) -> state`; of a game that is over the board stays as it is, and nobody is rewarded."""
    find_player: Callable[[Any], jax.Array]
    """`state -> int32`, the player whose turn it is."""
    is_over: Callable[[Any], jax.Array]
    """`state -> boolean`."""
    get_rewards: Callable[[Any], jax.Array]
    """`state -> [2]` float32, what the last move has brought each player."""
    observe: Callable[[Any, int], jax.Array]
    """`(state, player) -> [*observation_shape]`, the board as this player sees it, in anyone's turn: its own pieces
    in one plane and the other one's in another, so that one policy plays for both."""
    find_legal: Callable[[Any], jax.Array]
    """`state -> [num_actions]` boolean, the moves of the player whose turn it is: one at least, all once the game is
    over."""
    draw: Callable[[Any], Any] | None = None
    """`state on the host -> a picture of it`, as of `Environment.render`; None where it cannot be drawn."""

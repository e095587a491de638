"""pgx (Koyamada et al. 2023): board games of two players in turns, for a learner and its opponents."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pgx

from haepo_jax.environments.games.against import play_against
from haepo_jax.environments.games.interface import Game
from haepo_jax.environments.interface import Environment
from haepo_jax.environments.libraries.states import key_shape

_MOST_MOVES = {
    "animal_shogi": None,
    "chess": None,
    "connect_four": 42,
    "gardner_chess": None,
    "go_9x9": None,
    "go_19x19": None,
    "hex": None,
    "othello": None,
    "shogi": None,
    "tic_tac_toe": 9,
}
"""The games whose players move strictly in turn, with the most moves of both where the rules bound them closely."""


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(_MOST_MOVES)


def find(name: str) -> Callable[..., Any]:
    """Returns what makes a game; none has arguments."""

    def make_pgx() -> Any:
        return pgx.make(name)

    return make_pgx


def adapt(name: str, env: Any) -> Environment:
    """Makes it an `Environment`, whose opponent plays at random unless a `Lineup` says otherwise.

    The learner is the library's player 0.
    """
    begun = jax.eval_shape(env.init, key_shape())

    def observe(state: Any, player: int) -> jax.Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the library will no longer show the board to who does not move
            return env.observe(state, jnp.int32(player))

    return play_against(
        Game(
            name=name,
            observation_shape=begun.observation.shape,
            num_actions=begun.legal_action_mask.shape[0],
            max_moves=_MOST_MOVES[name.partition(":")[2]],
            begin=env.init,
            move=env.step,
            find_player=lambda state: state.current_player,
            is_over=lambda state: state.terminated | state.truncated,
            get_rewards=lambda state: state.rewards,
            observe=observe,
            find_legal=lambda state: state.legal_action_mask,
        )
    )

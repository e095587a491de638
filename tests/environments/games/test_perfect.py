"""The perfect player of tic-tac-toe, by all games that there are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.environments import make
from haepo_jax.environments.games.lines import list_lines
from haepo_jax.environments.games.perfect import find_best_moves, make_perfect_player
from haepo_jax.errors import ConfigError

LINES = list_lines(3, 3, 3)
POWERS = 3 ** np.arange(9)


def has_line(cells, player):
    return (np.array(cells)[LINES] == player).all(axis=1).any()


@functools.cache
def count_ends(cells, moves_next):
    """Counts `(won, drawn, lost)` games of the perfect player (stones 1), over all its best moves and all replies."""
    if has_line(cells, 1):
        return np.array([1, 0, 0])
    if has_line(cells, 2):
        return np.array([0, 0, 1])
    free = [cell for cell in range(9) if not cells[cell]]
    if not free:
        return np.array([0, 1, 0])
    if moves_next:
        allowed = find_best_moves()[int(np.array(cells) @ POWERS)]
        assert set(np.flatnonzero(allowed)) <= set(free) and allowed.any()
        free = np.flatnonzero(allowed)
    stone = 1 if moves_next else 2
    return sum(count_ends((*cells[:cell], stone, *cells[cell + 1 :]), not moves_next) for cell in free)


@pytest.mark.parametrize("moves_first", [True, False])
def test_the_perfect_player_never_loses_whoever_plays_against_it(moves_first):
    won, drawn, lost = count_ends((0,) * 9, moves_first)
    assert lost == 0 and won > 0 and drawn > 0


def test_all_positions_that_are_not_over_are_known():
    """Of the 5,478 positions 958 are over (626 won by the first player, 316 by the second, 16 drawn)."""
    assert len(find_best_moves()) == 5478 - 958


def test_it_wins_at_once_where_it_can_and_else_takes_what_the_other_one_needs():
    best = find_best_moves()
    wins = np.array([1, 1, 0, 2, 2, 0, 0, 0, 0])
    assert np.flatnonzero(best[int(wins @ POWERS)]).tolist() == [2]
    blocks = np.array([1, 0, 0, 2, 2, 0, 0, 0, 1])
    assert np.flatnonzero(best[int(blocks @ POWERS)]).tolist() == [5]


def test_it_plays_from_observations_and_draws_evenly_among_its_best_moves():
    environment, act = make("TicTacToe-haepo"), make_perfect_player()
    empty = jnp.concatenate([jnp.zeros(18), jnp.ones(9)])
    drawn = jax.vmap(act, (None, 0))(empty, jax.random.split(jax.random.key(0), 2000))
    counts = np.bincount(drawn, minlength=9)
    assert (np.abs(counts - 2000 / 9) < 5 * np.sqrt(2000 / 9)).all()  # all first moves draw
    # Own stones at 0 and 1, the other one's at 3 and 4: it must take 2.
    board = jnp.zeros((9, 2)).at[jnp.array([0, 1]), 0].set(1).at[jnp.array([3, 4]), 1].set(1)
    assert act(jnp.concatenate([board.ravel(), jnp.ones(9)]), jax.random.key(1)) == 2
    assert environment.observation_shape == empty.shape


def test_another_game_is_refused():
    with pytest.raises(ConfigError, match=r"knows tic-tac-toe alone.*not \(91,\)"):
        make_perfect_player()(jnp.zeros(91), jax.random.key(0))

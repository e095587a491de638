"""A game as an environment of one learner: seats, opponents, and what is reported of a game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haepo_jax.environments import make
from haepo_jax.environments.actions import draw_action
from haepo_jax.environments.games.against import LINEUP, Lineup, Player, play_against
from haepo_jax.environments.games.interface import LEARNER, OPPONENT
from haepo_jax.environments.games.lines import EMPTY, make_tic_tac_toe
from haepo_jax.environments.games.perfect import make_perfect_player

PERFECT = make_perfect_player()
AMONG = Player(  # opponents by number: an even number of the row plays perfectly, and an odd one the first free cell
    lambda: jnp.int32(0),
    lambda params, carry, key, observation: (
        carry + 1,
        jnp.where(params % 2 == 0, PERFECT(observation, key), jnp.argmax(observation[18:]).astype(jnp.int32)),
    ),
    ("strong", "weak"),
    counts_each=True,
)


def play_many(environment, params, num, learner=None):
    """`(alive, rewards, info, final state)` of episodes side by side; the learner moves at random by default."""

    @jax.jit
    @jax.vmap
    def episode(key):
        def step(carry, key):
            state, observation, alive = carry
            action = draw_action(environment, key, observation) if learner is None else learner(observation, key)
            after = environment.step(params, key, state, action)
            following = jax.tree.map(
                lambda new, old: jnp.where(alive, new, old), (after.state, after.observation), (state, observation)
            )
            return (*following, alive & ~after.done), (alive, after.reward, after.info_metrics, after.done)

        state, observation = environment.reset(params, key)
        carry = (state, observation, jnp.bool_(True))
        (state, _, alive), (lived, rewards, info, _) = jax.lax.scan(step, carry, jax.random.split(key, 5))
        lived = lived.astype(jnp.float32)
        total = {name: (values * lived).sum() for name, values in info.items()}
        return ~alive, (rewards * lived).sum(), total, state, observation

    return jax.device_get(episode(jax.random.split(jax.random.key(0), num)))


@pytest.fixture(scope="module")
def at_random():
    return play_many(make("TicTacToe-haepo"), {}, 4000)


def test_random_play_wins_draws_and_loses_as_often_as_all_games_say(at_random):
    """Of random games the first player wins 0.585, the second 0.288, and 0.127 are drawn; seats are even."""
    ended, rewards, info, *_ = at_random
    assert ended.all()
    shares = {name: info[name].mean() for name in ("win_rate", "draw_rate", "loss_rate")}
    assert abs(shares["draw_rate"] - 0.127) < 0.02
    assert abs(shares["win_rate"] - 0.436) < 0.03 and abs(shares["loss_rate"] - 0.436) < 0.03
    np.testing.assert_array_equal(rewards, info["win_rate"] - info["loss_rate"])
    np.testing.assert_array_equal(sum(info[name] for name in shares), 1)


def test_the_opponent_has_moved_once_more_or_as_often_when_the_learner_is_to_move():
    environment = make("TicTacToe-haepo")
    reset = jax.jit(jax.vmap(lambda key: environment.reset({}, key)))
    state, observation = reset(jax.random.split(jax.random.key(1), 400))
    stones = np.asarray(state.position.cells != EMPTY).sum((1, 2))
    assert set(stones) == {0, 1} and 150 < stones.sum() < 250
    assert (np.asarray(state.position.player) == LEARNER).all()
    board = np.asarray(observation)[:, :18].reshape(-1, 9, 2)
    assert not board[..., 0].any() and (board[..., 1].sum(1) == stones).all()
    assert (np.asarray(observation)[:, 18:].sum(1) == 9 - stones).all()


def test_each_episode_draws_its_opponent_by_the_chances_of_the_lineup():
    environment = play_against(make_tic_tac_toe(), AMONG)
    lineup = Lineup(jnp.array([0, 1]), jnp.log(jnp.array([0.2, 0.5, 0.3])))
    _, _, info, state, _ = play_many(environment, {LINEUP: lineup}, 3000)
    shares = np.bincount(state.opponent, minlength=3) / 3000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.03)
    for number, kind in enumerate(("random", "strong", "weak")):
        np.testing.assert_array_equal(info[f"games_{kind}"], state.opponent == number)
    np.testing.assert_array_equal(info["games_1"], info["games_weak"])
    points = info["win_rate"] + info["draw_rate"] / 2
    np.testing.assert_array_equal(info["points_strong"], points * (state.opponent == 1))
    np.testing.assert_array_equal(info["points_0"], info["points_strong"])
    assert info["win_rate"][state.opponent == 1].sum() == 0  # nobody wins against the perfect player
    moves = state.carry[state.opponent == 2]
    assert (moves >= 1).all() and (state.carry[state.opponent == 0] == moves.min()).any()


def test_a_move_that_is_not_allowed_is_never_played():
    """An opponent that wants the first cell always, or one beyond the board, moves as often as the learner."""
    for wanted in (0, 99, -1):
        player = Player(lambda: (), lambda params, carry, key, seen, w=wanted: (carry, jnp.int32(w)), ("stubborn",))
        environment = play_against(make_tic_tac_toe(), player)
        lineup = Lineup(jnp.zeros(1), jnp.array([-jnp.inf, 0.0]))
        _, _, info, state, _ = play_many(environment, {LINEUP: lineup}, 200)
        cells = state.position.cells.reshape(200, 9)
        difference = (cells == LEARNER).sum(axis=1) - (cells == OPPONENT).sum(axis=1)
        assert (np.abs(difference) <= 1).all() and info["draw_rate"].any()
        if wanted == 0:
            assert (cells[:, 0] == OPPONENT).mean() > 0.5


def test_two_perfect_players_always_draw():
    environment = play_against(make_tic_tac_toe(), AMONG)
    lineup = Lineup(jnp.array([0]), jnp.array([-jnp.inf, 0.0]))
    _, rewards, info, state, _ = play_many(environment, {LINEUP: lineup}, 500, learner=PERFECT)
    assert not rewards.any() and info["draw_rate"].all() and (state.opponent == 1).all()


def test_the_opponent_sees_its_own_stones_first():
    """A player that takes the cell beside its one stone, which it finds in the first of the planes."""

    def act(params, carry, key, observation):
        own = observation[:18].reshape(9, 2)[:, 0]
        free = observation[18:]
        beside = (jnp.argmax(own) + 1) % 9
        chosen = jnp.where(own.any() & (free[beside] > 0), beside, jnp.argmax(free))
        return carry, chosen.astype(jnp.int32)

    environment = play_against(make_tic_tac_toe(), Player(lambda: (), act, ("beside",)))
    params = {LINEUP: Lineup(jnp.zeros(1), jnp.array([-jnp.inf, 0.0]))}
    key = jax.random.key(0)
    step = jax.jit(lambda key, state, action: environment.step(params, key, state, action))
    state, _ = jax.jit(lambda key: environment.reset(params, key))(key)
    # The learner keeps away from cells 0 and 1.
    after = step(key, state, jnp.int32(8))
    after = step(key, after.state, jnp.int32(4))
    theirs = np.flatnonzero(np.asarray(after.state.position.cells).ravel() == OPPONENT)
    assert {0, 1} <= set(theirs.tolist())

"""A two-player game as an environment of one learner: the opponent's moves are part of a step.

So all that trains one agent trains the learner. Who the opponent is comes with the environment's numbers, as a
`Lineup`; without one it plays evenly at random.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax.environments.actions import draw_allowed
from haepo_jax.environments.games.interface import LEARNER, OPPONENT, Game
from haepo_jax.environments.interface import Discrete, Environment, Step
from haepo_jax.environments.observations import make_observer

LINEUP = "self_play.lineup"
"""The name of the `Lineup` among the environment's numbers; no setting has it."""
RANDOM = "random"
"""The kind of the opponent that plays evenly at random."""
WIN_RATE, DRAW_RATE, LOSS_RATE = "win_rate", "draw_rate", "loss_rate"
"""Info metrics of each game: 1 in the last step of an episode that ends so."""


class Lineup(NamedTuple):
    """The opponents that an episode may draw: random play, and N others."""

    params: Any
    """Of the N others, a tree `[N, ...]`."""
    log_chances: jax.Array
    """`[1 + N]` float32, of random play and of each other one, need not be normalised."""


class Player(NamedTuple):
    """Chooses the moves of an opponent that does not play at random."""

    start: Callable[[], Any]
    """`() -> carry`, what it remembers before its first move."""
    act: Callable[[Any, Any, jax.Array, jax.Array], tuple[Any, jax.Array]]
    """`(params of one opponent, carry, key, observation) -> (carry, action)`. In the place of an action that is not
    allowed one that is is drawn evenly."""
    kinds: tuple[str, ...]
    """What each of the N opponents is called in the metrics, where they have names of their own."""
    counts_each: bool = False
    """Whether each of the N opponents is counted by itself too."""


class Match(NamedTuple):
    """An episode."""

    position: Any
    """Of the game."""
    opponent: jax.Array
    """int32, 0 for random play, k for the k-th of the others."""
    carry: Any
    """What the opponent remembers."""


_NOBODY = Player(lambda: (), lambda params, carry, key, observation: (carry, jnp.int32(0)), ())


def play_against(
    game: Game,
    player: Player = _NOBODY,
) -> Environment:
    """Makes the environment in which a learner plays against opponents.

    Each episode is a game, whose opponent and whose first player are drawn when it begins.

    Args:
      game: to be played.
      player: chooses the moves of opponents other than random play; nobody by default.

    Returns:
      The `Environment`. Its observations are the learner's, with the action mask of its move.
    """
    observer = make_observer(
        jax.ShapeDtypeStruct(game.observation_shape, jnp.float32), jax.ShapeDtypeStruct((game.num_actions,), bool)
    )
    kinds, draw = (RANDOM, *player.kinds), game.draw

    def see(position: Any, who: int) -> jax.Array:
        return observer(game.observe(position, who), game.find_legal(position))

    def reply(params: Mapping[str, Any], key: jax.Array, match: Match) -> tuple[Match, jax.Array]:
        """The opponent's move, if it is its turn, and whether it was."""
        moves = ~game.is_over(match.position) & (game.find_player(match.position) == OPPONENT)
        observation = see(match.position, OPPONENT)
        random_key, own_key = jax.random.split(key)
        allowed = observation[observation.size - observer.mask_size :]
        action = draw_allowed(random_key, allowed)
        carry = match.carry
        lineup: Lineup | None = params.get(LINEUP)
        if lineup is not None and player.kinds:
            # All N choose, and one of them plays: over episodes these are N products of matrices. With the parameters
            # of each episode's own opponent it would be a product of a matrix and a vector each, 10 times as slow.
            carries, actions = jax.vmap(lambda own: player.act(own, match.carry, own_key, observation))(lineup.params)
            number = jnp.maximum(match.opponent - 1, 0)
            carry, chosen = jax.tree.map(lambda leaf: leaf[number], (carries, actions))
            # What a board becomes by a move that is not allowed, no game says.
            can_play = jnp.any((jnp.arange(game.num_actions) == chosen) & (allowed > 0.5))
            action = jnp.where((match.opponent > 0) & can_play, chosen, action)
        after = match._replace(position=game.move(match.position, action), carry=carry)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, match), moves

    def reset(params: Mapping[str, Any], key: jax.Array) -> tuple[Match, jax.Array]:
        begin_key, opponent_key, reply_key = jax.random.split(key, 3)
        lineup: Lineup | None = params.get(LINEUP)
        opponent = jnp.int32(0)
        if lineup is not None:
            opponent = jax.random.categorical(opponent_key, lineup.log_chances).astype(jnp.int32)
        start = jax.tree.map(jnp.asarray, player.start())
        match, _ = reply(params, reply_key, Match(game.begin(begin_key), opponent, start))
        return match, see(match.position, LEARNER)

    def step(params: Mapping[str, Any], key: jax.Array, match: Match, action: jax.Array) -> Step:
        moved = match._replace(position=game.move(match.position, action))
        after, replied = reply(params, key, moved)
        reward = game.get_rewards(moved.position)[LEARNER]
        reward = reward + jnp.where(replied, game.get_rewards(after.position)[LEARNER], 0.0)
        over = game.is_over(after.position)
        return Step(after, see(after.position, LEARNER), reward, over, over, count(match.opponent, reward, over))

    def count(opponent: jax.Array, reward: jax.Array, over: jax.Array) -> dict[str, jax.Array]:
        ends = {WIN_RATE: reward > 0, DRAW_RATE: reward == 0, LOSS_RATE: reward < 0}
        points = jnp.where(over, (jnp.sign(reward) + 1) / 2, 0.0)
        counted = {name: over & is_so for name, is_so in ends.items()}
        if player.kinds:
            for kind in dict.fromkeys(kinds):
                those = np.array([name == kind for name in kinds])
                is_kind = jnp.asarray(those)[opponent]
                counted |= {name_games(kind): over & is_kind, name_points(kind): points * is_kind}
        if player.counts_each:
            for number in range(len(player.kinds)):
                is_it = opponent == number + 1
                counted |= {name_games(number): over & is_it, name_points(number): points * is_it}
        return {name: jnp.asarray(value, jnp.float32) for name, value in counted.items()}

    names: Sequence[str] = tuple(jax.eval_shape(lambda: count(jnp.int32(0), jnp.float32(0), jnp.bool_(True))))
    return Environment(
        game.name,
        observer.observation_shape,
        Discrete(game.num_actions),
        None if game.max_moves is None else (game.max_moves + 1) // 2,
        {},
        tuple(names),
        reset,
        step,
        render=None if draw is None else lambda params, states: (draw(state.position) for state in states),
        mask_size=observer.mask_size,
        masked_shape=observer.masked_shape,
        game=game,
    )


def name_games(opponent: ArrayLike | str) -> str:
    """Names the info metric that counts the games against a kind of opponents, or against one of them by number."""
    return f"games_{opponent}"


def name_points(opponent: ArrayLike | str) -> str:
    """Names the info metric of the points of these games: 1 for a win, a half for a draw."""
    return f"points_{opponent}"

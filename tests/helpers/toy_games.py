"""A small two-player game whose best moves are known by heart."""

import jax
import jax.numpy as jnp

from haepo_jax.environments import Game

MOST = 3


def make_nim(stones: int = 7, limited: bool = True) -> Game:
    """Makes Nim with one heap: a move takes 1 to 3 stones, and who takes the last one wins.

    Who is to move wins by leaving a multiple of 4, and loses where the heap is one. Observations are one entry for
    each number of stones, of which one is 1. Without `limited` it tells no most moves.
    """

    def begin(key):
        return {
            "heap": jnp.int32(stones),
            "player": jax.random.bernoulli(key).astype(jnp.int32),
            "rewards": jnp.zeros(2),
        }

    def move(state, action):
        heap, player = state["heap"], state["player"]
        left = jnp.maximum(heap - action - 1, 0)
        wins = (heap > 0) & (left == 0)
        rewards = jnp.where(wins, jnp.where(jnp.arange(2) == player, 1.0, -1.0), 0.0)
        return {"heap": left, "player": jnp.where(heap > 0, 1 - player, player), "rewards": rewards}

    return Game(
        name="nim",
        observation_shape=(stones + 1,),
        num_actions=MOST,
        max_moves=stones if limited else None,
        begin=begin,
        move=move,
        find_player=lambda state: state["player"],
        is_over=lambda state: state["heap"] == 0,
        get_rewards=lambda state: state["rewards"],
        observe=lambda state, player: jax.nn.one_hot(state["heap"], stones + 1),
        find_legal=lambda state: (jnp.arange(MOST) < state["heap"]) | (state["heap"] == 0),
    )


def make_best_taker():
    """Makes the player that leaves a multiple of 4 where it can, and else takes one stone."""

    def act(observation, key):
        heap = jnp.argmax(observation[:-MOST])
        return jnp.where(heap % 4 > 0, heap % 4 - 1, 0)

    return act

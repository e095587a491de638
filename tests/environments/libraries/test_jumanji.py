"""Jumanji behind our interface is Jumanji itself, step by step: nested observations, masks, several choices."""

import pytest

pytest.importorskip("jumanji", reason="needs the extra jumanji")

import jax
import jax.numpy as jnp
import jumanji
import numpy as np
from helpers.library_steps import assert_drawn, assert_same, play

from haepo_jax.environments import Box, Discrete, MultiDiscrete, make
from haepo_jax.errors import ConfigError

# By id: the space, the entries of the mask, the shape of what a network sees, the limit.
FORMS = {
    "Snake-v1": (Discrete(4), 4, (12 * 12 * 5 + 1,), 4000),
    "Game2048-v1": (Discrete(4), 4, (4, 4), None),
    "Maze-v0": (Discrete(4), 4, (100 + 5,), 100),
    "Minesweeper-v0": (Discrete(100), 100, (102,), None),
    "Tetris-v0": (Discrete(40), 40, (10 * 10 + 16 + 1,), 400),
    "JobShop-v0": (MultiDiscrete((21,) * 10), 210, None, None),
    "Connector-v3": (MultiDiscrete((5,) * 10), 50, None, 50),
    "RubiksCube-partly-scrambled-v0": (MultiDiscrete((6, 1, 3)), 0, (6 * 9 + 1,), 20),
    "Knapsack-v1": (Discrete(50), 50, (150,), None),
    "SearchAndRescue-v0": (Box(4), 0, None, 400),
}
QUICK = ("Snake-v1", "JobShop-v0", "Minesweeper-v0", "RubiksCube-partly-scrambled-v0")


def as_one(observation):
    """All of an observation but its mask, in the order of its fields, then the mask."""
    fields = observation._asdict() if hasattr(observation, "_asdict") else dict(vars(observation))
    mask = fields.pop("action_mask", None)
    leaves = [*jax.tree.leaves(tuple(fields.values())), *jax.tree.leaves(mask)]
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in leaves])


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FORMS])
def test_steps_are_those_of_the_library(name):
    environment, env = make(f"jumanji:{name}"), jumanji.make(name)
    space, mask_size, features, limit = FORMS[name]
    assert (environment.action_space, environment.mask_size, environment.max_steps) == (space, mask_size, limit)
    assert features is None or environment.feature_shape == features
    played = play(environment, steps=60)

    def own(action):
        if isinstance(space, Box):
            return jnp.reshape(action, env.action_spec.shape).astype(env.action_spec.dtype)
        if isinstance(space, Discrete) and env.action_spec.shape:
            return jnp.stack(jnp.unravel_index(action, tuple(map(int, np.asarray(env.action_spec.num_values)))))
        return action

    def reset(key):
        state, timestep = env.reset(key)
        return state, as_one(timestep.observation).reshape(environment.observation_shape)

    def step(key, state, action):
        state, timestep = env.step(state, own(action))
        seen = as_one(timestep.observation).reshape(environment.observation_shape)
        return state, seen, jnp.sum(timestep.reward), timestep.last()

    assert_same(played, reset, step, tolerance=1e-6)


@pytest.mark.parametrize("name", ["Maze-v0", "RubiksCube-partly-scrambled-v0"])
def test_a_limit_of_time_is_no_end_of_the_task(name):
    played = play(make(f"jumanji:{name}", (("time_limit", 3),)))
    assert played.done.tolist() == [False, False, True] and not played.terminated.any()


@pytest.mark.parametrize("limit", [4000, 1])
def test_a_death_is_an_end_of_the_task_at_the_limit_too(limit):
    environment, env = make("jumanji:Snake-v1", (("time_limit", limit),)), jumanji.make("Snake-v1")
    state, _ = env.reset(jax.random.key(0))
    against_the_wall = state.replace(head_position=type(state.head_position)(jnp.int32(0), jnp.int32(0)))
    stuck = against_the_wall.replace(action_mask=jnp.array([False, True, True, False]))
    after = jax.jit(environment.step)({}, jax.random.key(1), tuple(jax.tree.leaves(stuck)), 0)
    assert after.done and after.terminated


def test_arguments_of_the_class_reach_it_and_others_are_refused():
    assert make("jumanji:Snake-v1", (("num_rows", 6), ("num_cols", 5))).feature_shape == (6 * 5 * 5 + 1,)
    with pytest.raises(ConfigError, match=r"config.env_kwargs \(rows=6\) cannot be used by jumanji:Snake-v1"):
        make("jumanji:Snake-v1", (("rows", 6),))
    with pytest.raises(ConfigError, match=r"'Snak-v1' is not known; did you mean Snake-v1"):
        make("jumanji:Snak-v1")


@pytest.mark.parametrize("name", ["Snake-v1", "Maze-v0"])
def test_it_is_drawn(name):
    environment = make(f"jumanji:{name}")
    assert_drawn(environment, play(environment, steps=3).states)

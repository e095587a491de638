"""What the rest of the package sees of an environment."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Discrete(NamedTuple):
    """Actions 0, ..., n - 1."""

    n: int


class Box(NamedTuple):
    """Real-valued actions. Policies act in [-1, 1]; the environment scales to its own bounds."""

    size: int


class Step(NamedTuple):
    """One transition of one environment."""

    state: Any
    observation: jax.Array
    """`[O]` float32, the observation after the step."""
    reward: jax.Array
    """`[]` float32."""
    done: jax.Array
    """`[]` boolean, True when the episode ended, by termination or by the environment's own time limit."""


class Environment(NamedTuple):
    """Pure functions of one environment, to be vmapped, and its sizes."""

    name: str
    observation_size: int
    """O: observations are flat float32 vectors `[O]`."""
    action_space: Discrete | Box
    max_steps: int
    """The environment's own limit on the length of an episode."""
    reset: Callable[[jax.Array], tuple[Any, jax.Array]]
    """`key -> (state, observation)`."""
    step: Callable[[jax.Array, Any, jax.Array], Step]
    """`(key, state, action) -> Step`. Does not reset by itself."""

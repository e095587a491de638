"""A walk along a line whose only reward is at its far end."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from haepo_jax.environments.chain import Chain, EnvState
from haepo_jax.environments.gymnax_library import environment, spaces


@struct.dataclass
class EnvParams(environment.EnvParams):
    """Numbers of the walk."""

    length: int = 50
    """Position of the goal, at least 1."""
    slip: float = 0.0
    """Probability that a move goes the other way."""
    max_steps_in_episode: int = 500


class RandomWalk(Chain):
    """`RandomWalk-haepo`: positions 0, ..., length; action 0 goes left, 1 right; reward 1 at `length`, else 0.

    It starts at 0, where left stays. The observation is `[position / length]`. By default (length 50, no slip, 500
    steps) the uniform policy reaches the goal in 4.786% of its episodes, and always going right takes 50 steps.
    """

    @property
    def name(self) -> str:
        """Its id."""
        return "RandomWalk-haepo"

    @property
    def default_params(self) -> EnvParams:
        """Length 50, no slip, 500 steps."""
        return EnvParams()

    def forward(self, state: EnvState, action: Any, params: EnvParams) -> jax.Array:
        """Right is forward."""
        return jnp.asarray(action) == 1

    def observe(self, key: jax.Array, state: EnvState, action: Any, params: EnvParams) -> jax.Array:
        """`[1]` float32, the position as a share of the length."""
        return self.progress(state, params)[None]

    def observation_space(self, params: EnvParams) -> spaces.Box:
        """Between start and goal."""
        return spaces.Box(0, 1, (1,), jnp.float32)

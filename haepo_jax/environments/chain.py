"""Common parts of the walks along a chain of cells: moving, slipping, and the goal at the end."""

import math
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from haepo_jax.environments.gymnax_library import environment, spaces


@struct.dataclass
class EnvState(environment.EnvState):
    """Where the walker is."""

    position: jax.Array
    """`[]` int32, 0, ..., length."""


class Chain(environment.Environment):
    """A walk over positions 0, ..., length, from 0 until it reaches `length`.

    A move goes one forward or one back (at 0, back stays). With probability `params.slip` it goes the other way
    than the action says. Reaching `length` gives reward 1 and terminates; every other reward is 0. `info` carries
    `success`, 1.0 at the step that reaches the goal. A length under 1 is read as 1.
    """

    info_metrics = ("success",)
    param_limits = MappingProxyType({"length": (1, math.inf), "slip": (0, 1)})

    def forward(self, state: EnvState, action: Any, params: Any) -> jax.Array:
        """`[]` boolean, whether the action means a move forward."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, EnvState]:
        """At position 0, whatever the key."""
        state = EnvState(time=jnp.int32(0), position=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(
        self, key: jax.Array, state: EnvState, action: Any, params: Any
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, dict[str, jax.Array]]:
        """One move."""
        slipped = jax.random.uniform(key, (), jnp.float32) < params.slip
        move = jnp.where(self.forward(state, action, params) ^ slipped, 1, -1)
        position = jnp.clip(state.position + move, 0, goal(params))
        state = state.replace(time=state.time + 1, position=jnp.asarray(position, jnp.int32))
        reached = self.is_terminated(state, params)
        success = jnp.asarray(reached, jnp.float32)
        info = {"discount": self.discount(state, params), "success": success}
        return self.observe(key, state, action, params), state, success, reached, info

    def is_terminated(self, state: EnvState, params: Any) -> jax.Array:
        """True at the goal."""
        return state.position >= goal(params)

    def progress(self, state: EnvState, params: Any) -> jax.Array:
        """`[]` float32, the position as a share of the length."""
        return jnp.asarray(state.position / goal(params), jnp.float32)

    @property
    def num_actions(self) -> int:
        """Two."""
        return 2

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Two actions."""
        return spaces.Discrete(2)

    def state_space(self, params: Any) -> spaces.Dict:
        """The position and the time."""
        return spaces.Dict(
            {
                "position": spaces.Discrete(params.length + 1),
                "time": spaces.Discrete(params.max_steps_in_episode + 1),
            }
        )


def goal(params: Any) -> jax.Array:
    """`[]` integer, the position that ends the walk."""
    return jnp.maximum(params.length, 1)

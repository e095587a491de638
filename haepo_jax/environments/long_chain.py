"""A long chain of cells in which a cue shows the way: episodes of thousands of steps, one reward."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from haepo_jax.environments.chain import Chain, EnvState
from haepo_jax.environments.gymnax_library import environment, spaces


@struct.dataclass
class EnvParams(environment.EnvParams):
    """Numbers of the chain."""

    length: int = 100
    """How many cells lie before the goal, at least 1."""
    slip: float = 0.0
    """Probability that a move goes the other way."""
    instance: int = 0
    """Chooses the cues."""
    max_steps_in_episode: int = 10_000


def cue(cell: ArrayLike, instance: ArrayLike) -> jax.Array:
    """The cue of a cell: +1 where action 1 goes forward, -1 where action 0 does. A fixed coin for each cell.

    Args:
      cell: `[...]` integers, positions.
      instance: `[...]` integers, which chain.

    Returns:
      `[...]` float32, +1 or -1.

    Example:
      >>> bool((cue(jnp.arange(100), 7) == cue(jnp.arange(100), 7)).all())
      True
    """
    # Arithmetic on 32 bits instead of jax.random: a step draws a cue for the cell it leaves and the one it enters.
    salt = _mixed(_bits(instance) + np.uint32(0x9E3779B9))
    return jnp.where(_mixed(_bits(cell) ^ salt) >> 31, 1.0, -1.0).astype(jnp.float32)


def _bits(numbers: ArrayLike) -> jax.Array:
    return jnp.asarray(numbers, jnp.int32).astype(jnp.uint32)


def _mixed(bits: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (32 bits): each bit of the input flips each bit of the output half the time."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


class LongChain(Chain):
    """`LongChain-haepo`: at each cell a cue shows which action goes forward; reward 1 at the end, else 0.

    It starts at cell 0, where back stays. The observation is `[position / length, cue]`, the cue as +1 (action 1
    goes forward) or -1 (action 0 does). By default (length 100, no slip, 10 000 steps) the uniform policy, which
    walks without direction, needs length * (length + 1) = 10 100 steps on average and reaches the end in 62.47% of
    its episodes; following the cue takes about length / (1 - 2 * slip) steps, 100. A longer chain makes the reward
    rare: at length 300 the uniform policy sees it in 0.53% of its episodes. Episodes are cut at `max_steps`.
    """

    def __init__(self, max_steps: int = 10_000) -> None:
        """The chain with episodes of at most so many steps."""
        super().__init__()
        if max_steps < 1:
            raise ValueError(f"an episode has at least 1 step, got max_steps {max_steps}.")
        self._max_steps = max_steps

    @property
    def name(self) -> str:
        """Its id."""
        return "LongChain-haepo"

    @property
    def default_params(self) -> EnvParams:
        """Length 100, no slip, instance 0, `max_steps` steps."""
        return EnvParams(max_steps_in_episode=self._max_steps)

    def forward(self, state: EnvState, action: Any, params: EnvParams) -> jax.Array:
        """The action that the cue of the cell names is forward."""
        return (jnp.asarray(action) == 1) == (cue(state.position, params.instance) > 0)

    def observe(self, key: jax.Array, state: EnvState, action: Any, params: EnvParams) -> jax.Array:
        """`[2]` float32, the position as a share of the length, and the cue."""
        return jnp.stack([self.progress(state, params), cue(state.position, params.instance)])

    def observation_space(self, params: EnvParams) -> spaces.Box:
        """A share and a sign."""
        return spaces.Box(jnp.array([0.0, -1.0]), jnp.array([1.0, 1.0]), (2,), jnp.float32)

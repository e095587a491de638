"""An environment of one's own in a single file, with the config that trains it: a ball on a tilted line.

A ball rolls on a line, and an episode ends when it leaves it. Each step the policy tips the line to one side or the
other; each step on the line is worth 1. `force` says how hard a tip pushes and `wind` how hard the ball is shaken, so
that both may be swept within one compiled program; `width`, the places that the policy tells apart, decides a shape.

Nothing of the package is edited or registered: `config.env` names the class by the module that it is in. It trains,
stops, resumes, evaluates, sweeps and reports like a built-in environment:

    python -m experiments.train --config=examples/custom_environment.py --workdir=runs/ball
    python -m experiments.evaluate --workdir=runs/ball
    python -m experiments.sweep --config=examples/custom_environment.py --workdir=runs/winds \
        --config.sweep.env_params.wind="(0.0, 0.02, 0.05)"

40 updates of 16 episodes take about 5 s on 2 CPU cores; all seeds then stay on the line for 100 steps.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
from gymnax.environments import environment, spaces

from haepo_jax.config import default_config


@flax.struct.dataclass
class State(environment.EnvState):
    """A step must give back the dtypes and shapes of a reset."""

    time: jax.Array
    place: jax.Array
    """From -1 to 1 on the line."""
    speed: jax.Array


@flax.struct.dataclass
class Params(environment.EnvParams):
    """Numbers that `config.env_params` sets and sweeps; the limit of an episode is no such number."""

    force: float = 0.03
    wind: float = 0.02
    max_steps_in_episode: int = 100


class Ball(environment.Environment):
    """The ball on its line; the argument is `config.env_kwargs.width`."""

    info_metrics = ("distance",)  # entries of `info` that become columns, summed over an episode

    def __init__(self, width: int = 9) -> None:
        """Takes the number of places that the policy tells apart."""
        super().__init__()
        self.width = width

    @property
    def default_params(self) -> Params:
        """The parameters that a config leaves out."""
        return Params()

    def reset_env(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Puts the ball near the middle."""
        state = State(jnp.int32(0), jax.random.uniform(key, minval=-0.1, maxval=0.1), jnp.float32(0))
        return self.get_obs(state), state

    def step_env(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> tuple:
        """Tips the line: observation, state, reward, whether the task itself has ended, info."""
        push = params.force * (2 * action - 1) + params.wind * jax.random.normal(key)
        speed = state.speed + push
        state = State(state.time + 1, state.place + speed, speed)
        info = {"distance": jnp.abs(speed)}
        return self.get_obs(state), state, jnp.float32(1), jnp.abs(state.place) > 1, info

    def is_truncated(self, state: State, params: Params) -> jax.Array:
        """Says whether the time is up."""
        return state.time >= params.max_steps_in_episode

    def get_obs(self, state: State, params: Any = None, key: Any = None) -> jax.Array:
        """Shows the place on the line, as one of `width`, and the speed."""
        cell = jnp.clip(((state.place + 1) / 2 * self.width).astype(jnp.int32), 0, self.width - 1)
        return jnp.append(jax.nn.one_hot(cell, self.width), 10 * state.speed)

    def observation_space(self, params: Params) -> spaces.Box:
        """Its shape is what the network gets."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.width + 1,))

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Left or right."""
        return spaces.Discrete(2)


def get_config() -> ml_collections.ConfigDict:
    """The settings; flags and sweeps change them."""
    config = default_config()
    config.env = "custom_environment:Ball"
    config.env_kwargs = {"width": 11}
    config.env_params = {"force": 0.03, "wind": 0.02}
    config.num_seeds = 4
    config.num_updates = 40
    return config

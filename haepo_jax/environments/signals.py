"""A game of many agents that is small enough to study how their number tells: all answer one signal."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haepo_jax.environments.agents import AgentsStep, MultiAgentEnvironment, View
from haepo_jax.environments.interface import Discrete

NAME = "Signals-haepo"


def make_signals(num_agents: int = 3, num_choices: int = 3, num_steps: int = 8) -> MultiAgentEnvironment:
    """Makes `Signals-haepo`: agents that see one signal, and each its own right answer to it.

    At each of `num_steps` steps a signal s, one of `num_choices`, is drawn evenly and shown to all. The right choice
    of agent i is (s + i) mod `num_choices`, so that agents that share a network must know their number. An agent's
    reward is `(1 - share)` times whether it is right plus `share` times the part of all agents that is; with the
    default share of 1 all have the team's reward alone, and an agent's own part in it is one of N. Every return is at
    most `num_steps`, and the mean over agents of even play is `num_steps / num_choices`.

    Args:
      num_agents: N.
      num_choices: of the signal and of each agent.
      num_steps: of an episode, which ends with the last one.

    Raises:
      ValueError: fewer than 1 agent or step, or fewer than 2 choices.

    Example:
      >>> game = make_signals(num_agents=2)
      >>> state, view = game.reset({}, jax.random.key(0))
      >>> game.step({}, jax.random.key(1), state, (state[0] + jnp.arange(2)) % 3).rewards.tolist()
      [1.0, 1.0]
    """
    for name, value, least in (
        ("num_agents", num_agents, 1),
        ("num_choices", num_choices, 2),
        ("num_steps", num_steps, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, num_choices)

    def look(signal: jax.Array) -> View:
        return View(jnp.broadcast_to(jax.nn.one_hot(signal, num_choices), (num_agents, num_choices)))

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, View]:
        signal = draw(key)
        return (signal, jnp.int32(0)), look(signal)

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, actions: jax.Array) -> AgentsStep:
        signal, time = state
        is_right = (actions == (signal + jnp.arange(num_agents)) % num_choices).astype(jnp.float32)
        share = jnp.asarray(params.get("share", 1.0), jnp.float32)
        rewards = (1 - share) * is_right + share * jnp.mean(is_right)
        following, ends = draw(key), time + 1 >= num_steps
        all_right = jnp.all(is_right > 0).astype(jnp.float32)
        return AgentsStep((following, time + 1), look(following), rewards, ends, ends, {"all_right": all_right})

    return MultiAgentEnvironment(
        NAME,
        num_agents,
        (num_choices,),
        Discrete(num_choices),
        num_steps,
        {"share": 1.0},
        ("all_right",),
        reset,
        step,
        param_limits={"share": (0.0, 1.0)},
    )

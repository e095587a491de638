"""Environments that are stepped side by side, as lanes: one for each environment, or for each agent of each.

E environments of N agents are E N lanes; lane e N + i is agent i of environment e. Observations, actions, rewards and
ends are those of lanes, `[L, ...]`; states, and the keys that environments are given, are those of environments.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from haepo_jax.environments.interface import Environment, Step, name_return


def reset_environments(
    environment: Environment, env_params: Mapping[str, jax.Array | float], keys: jax.Array
) -> tuple[Any, jax.Array]:
    """Resets E environments.

    Args:
      environment: what they are.
      env_params: its numbers, by name; its defaults for those left out.
      keys: `[E]` typed PRNG keys.

    Returns:
      States `[E, ...]`, and observations `[L, *O]`.
    """
    state, observation = jax.vmap(environment.reset, in_axes=(None, 0))(env_params, keys)
    return state, _as_lanes(environment, observation)


def step_environments(
    environment: Environment,
    env_params: Mapping[str, jax.Array | float],
    keys: jax.Array,
    state: Any,
    actions: jax.Array,
) -> Step:
    """Steps E environments by the actions `[L]` or `[L, A]` of their lanes; other arguments as of the reset.

    Returns:
      A `Step` of lanes, whose states are those of environments.
    """
    if environment.num_agents > 1:
        actions = actions.reshape(-1, environment.num_agents, *actions.shape[1:])
    after = jax.vmap(environment.step, in_axes=(None, 0, 0, 0))(env_params, keys, state, actions)
    return _as_lanes(environment, after._replace(state=()))._replace(state=after.state)


def of_environments(environment: Environment, are_over: jax.Array) -> jax.Array:
    """Brings what holds for lanes `[L]`, boolean, to environments `[E]`: it holds where it does for all agents."""
    return are_over if environment.num_agents == 1 else are_over.reshape(-1, environment.num_agents).all(axis=-1)


def average_by_kind(environment: Environment, returns: jax.Array) -> dict[str, jax.Array]:
    """Averages returns `[..., L]` over the agents of each kind, to `[..., E]` by the name of a metric.

    There is none where all agents are alike.
    """
    by_team = returns.reshape(*returns.shape[:-1], -1, environment.num_agents)
    return {
        name_return(kind): by_team[..., np.array(members)].mean(axis=-1) for kind, members in environment.kinds.items()
    }


def choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Chooses between trees of arrays `[K, ...]`, by a condition `[K]`."""
    return jax.tree.map(
        lambda one, other: jnp.where(condition.reshape(condition.shape + (1,) * (other.ndim - 1)), one, other),
        yes,
        no,
    )


def _as_lanes(environment: Environment, tree: Any) -> Any:
    """Brings `[E, N, ...]` to `[L, ...]`."""
    if environment.num_agents == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)

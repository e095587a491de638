"""Several agents in one environment: what the networks of each see, and whose trajectories compete.

They are played as lanes (`haepo_jax.rollouts.lanes`), each of which is a trajectory. Competing as a team, with
`joint`, the lanes of an episode are one trajectory: its log-likelihood is the sum over agents, its return their mean.
With `own` each agent's trajectories compete with its own of other episodes: agents are groups of their own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.config import ExperimentConfig, get_method_settings, sees_all
from haepo_jax.environments import Environment
from haepo_jax.methods import JOINT, Group, Packed, StepGroup, get_joint
from haepo_jax.networks import Policy, Value, get_seen_shape, make_one_each, see_as_agent


def count_lanes(config: ExperimentConfig, environment: Environment) -> int:
    """Counts the trajectories that are played side by side: one for each agent of `num_trajectories` environments."""
    return config.num_trajectories * environment.num_agents


def feature_shape_of(
    config: ExperimentConfig, environment: Environment, *, of_critic: bool = False
) -> tuple[int, ...]:
    """Computes the shape of what a network sees of an observation, but for the action mask.

    Args:
      config: the experiment.
      environment: where it plays.
      of_critic: whether the network is the value function.
    """
    if environment.parts is None:
        return environment.feature_shape
    return get_seen_shape(environment.parts, **_seen(config, of_critic))


def for_agents[Network: (Policy, Value)](
    config: ExperimentConfig, environment: Environment, network: Network, *, of_critic: bool = False
) -> Network:
    """Makes the network of all agents from one of features; the same where there is one agent.

    Args:
      config: the experiment.
      environment: where it plays.
      network: of features as `feature_shape_of` says.
      of_critic: as there.
    """
    if environment.parts is None:
        return network
    network = see_as_agent(network, environment.parts, **_seen(config, of_critic))
    if config.agents.networks == "shared":
        return network
    each = config.agents.networks == "each"
    of_agent = tuple(range(environment.num_agents)) if each else environment.parts.kinds
    return make_one_each(network, environment.parts, of_agent)


def _seen(config: ExperimentConfig, of_critic: bool) -> dict[str, bool]:
    # A network that one agent alone has would see the same number always.
    sees_number = config.agents.sees_number and config.agents.networks != "each"
    return {"sees_number": sees_number, "sees_world": of_critic and sees_all(config)}


def group_agents(
    config: ExperimentConfig, environment: Environment, group: Group | StepGroup
) -> tuple[Group | StepGroup, Callable[[jax.Array], jax.Array]]:
    """Makes groups of trajectories that compete from those of lanes.

    Args:
      config: the experiment.
      environment: where it plays.
      group: of lanes; those of an environment follow one another.

    Returns:
      The group, and the function that brings what an objective takes from lanes to it.
    """
    number = environment.num_agents
    if number == 1:
        return group, lambda values: values
    is_joint = get_joint(get_method_settings(config)) == JOINT
    if isinstance(group, Group):
        return _group_sums(group, number, is_joint)
    return _group_steps(group, number, is_joint)


def _group_sums(group: Group, number: int, is_joint: bool) -> tuple[Group, Callable[[jax.Array], jax.Array]]:
    def add(values: jax.Array) -> jax.Array:
        return _split(values, number, -1).sum(axis=-1) if is_joint else _each(values, number, -1)

    return Group(
        _returns(group.returns, number, is_joint),
        add(group.lengths),
        add(group.behaviour_log_likelihoods),
        group.is_reused,
        None if group.valid is None else _first_or_each(group.valid, number, is_joint),
    ), add


def _group_steps(group: StepGroup, number: int, is_joint: bool) -> tuple[StepGroup, Callable[[jax.Array], jax.Array]]:
    def add(values: jax.Array) -> jax.Array:
        if not is_joint:
            return _each(values, number, -2)
        return _split(jnp.where(group.where, values, 0), number, -2).sum(axis=-2)

    where = _split(group.where, number, -2).any(axis=-2) if is_joint else _each(group.where, number, -2)
    packed = group.packed
    if packed is not None:
        # Of a team or of each agent, the trajectories are counted without those of the others.
        of_step = packed.trajectory_of_step // number
        of_step = _split(of_step, number, -2)[..., 0, :] if is_joint else _each(of_step, number, -2)
        packed = Packed(of_step, _first_or_each(packed.valid, number, is_joint), packed.max_steps)
    returns = _returns(group.returns, number, is_joint)
    return StepGroup(returns, where, add(group.behaviour_log_probs), group.is_reused, packed), add


def _returns(returns: jax.Array, number: int, is_joint: bool) -> jax.Array:
    return _split(returns, number, -1).mean(axis=-1) if is_joint else _each(returns, number, -1)


def _first_or_each(values: jax.Array, number: int, is_joint: bool) -> jax.Array:
    return _split(values, number, -1)[..., 0] if is_joint else _each(values, number, -1)


def _split(values: Any, number: int, axis: int) -> jax.Array:
    """Splits the axis of lanes, counted from the end, into one of episodes and one of agents after it."""
    place = values.ndim + axis
    return values.reshape(*values.shape[:place], -1, number, *values.shape[place + 1 :])


def _each(values: jax.Array, number: int, axis: int) -> jax.Array:
    """Brings agents to the front: `[..., lanes, ...] -> [N, ..., episodes, ...]`."""
    return jnp.moveaxis(_split(values, number, axis), axis, 0)

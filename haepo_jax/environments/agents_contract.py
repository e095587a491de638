"""What an environment of many agents must keep to (`contract` has the same of one)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.environments.agents import AgentsStep, MultiAgentEnvironment, View
from haepo_jax.environments.contract import (
    check_action_space,
    check_elements,
    check_flags,
    check_limit,
    check_numbers,
    check_observation_shape,
    check_reported_name,
    check_state,
    checked_info_metrics,
    first_step_named,
    type_of,
    words_of,
)
from haepo_jax.environments.interface import Box, action_type, count_choices, name_return
from haepo_jax.errors import ConfigError, quoted


def check_agents(environment: MultiAgentEnvironment) -> None:
    """Checks that an environment of many agents keeps to its interface, without computing a step.

    Raises:
      ConfigError: an attribute, or what its reset or step returns, is not what the interface asks for.
    """
    name, number, space = environment.name, environment.num_agents, environment.action_space
    if type(number) is not int or not 1 <= number < 2**31:
        raise ConfigError(f"env {name} has num_agents {quoted(number)}; it must be a whole number from 1 on.")
    checked_info_metrics(name, environment.info_metrics)
    check_observation_shape(name, environment.observation_shape)
    check_action_space(name, space)
    check_limit(name, environment.max_steps)
    _check_mask_size(environment)
    _check_kinds(environment)
    check_numbers(name, environment.params)
    one = action_type(space)
    actions = jax.ShapeDtypeStruct((number, *one.shape), one.dtype)

    def play(key: jax.Array, actions: jax.Array) -> tuple[Any, Any, Any]:
        state, view = environment.reset({}, key)
        return jax.tree.map(jnp.asarray, state), view, environment.step({}, key, state, actions)

    with first_step_named(environment, environment.params):
        state, first, step = jax.eval_shape(play, jax.eval_shape(lambda: jax.random.key(0)), actions)
    if not isinstance(step, AgentsStep):
        raise ConfigError(
            f"env {name}: its step gives {words_of(step)}; it must be a haepo_jax.environments.AgentsStep."
        )
    for what, view in (("reset", first), ("step", step.view)):
        _check_view(environment, what, view)
    if not isinstance(step.info_metrics, Mapping) or set(step.info_metrics) != set(environment.info_metrics):
        raise ConfigError(
            f"env {name}: the info_metrics of its step are not those that its attribute names, "
            f"{quoted(sorted(environment.info_metrics))}; make them the same."
        )
    _check_array(name, "rewards", step.rewards, f"float32[{number}]")
    for measure, value in step.info_metrics.items():
        _check_array(name, f"measure {measure}", value, "float32[]")
    check_flags(name, {"done": step.done, "terminated": step.terminated})
    ended = f"bool[{number}]" if environment.ends_early else None
    _check_array(name, "agents_done", step.agents_done, ended, "ends_early")
    check_elements(name, state)
    check_state(name, state, step.state)


def _check_view(environment: MultiAgentEnvironment, what: str, view: Any) -> None:
    name, number = environment.name, environment.num_agents
    if not isinstance(view, View):
        raise ConfigError(f"env {name}: its {what} gives {words_of(view)}; it must be a haepo_jax.environments.View.")
    shape = ", ".join(map(str, (number, *environment.observation_shape)))
    _check_array(name, f"observations of its {what}", view.observations, f"float32[{shape}]")
    masks = f"bool[{number}, {environment.mask_size}]" if environment.mask_size else None
    _check_array(name, f"action_masks of its {what}", view.action_masks, masks, "mask_size")
    world = f"float32[{environment.world_size}]" if environment.world_size else None
    _check_array(name, f"world of its {what}", view.world, world, "world_size")


def _check_array(name: str, what: str, array: Any, wanted: str | None, by: str | None = None) -> None:
    """Refuses an array that is not of the type that is wanted, or is there though none is, as attribute `by` says."""
    found = None if array is None else type_of(array) if hasattr(array, "shape") else words_of(array)
    if found != wanted:
        because = f", as {by} says" if by else ""
        raise ConfigError(f"env {name} gives its {what} as {found}; it must be {wanted}{because}.")


def _check_mask_size(environment: MultiAgentEnvironment) -> None:
    size, space = environment.mask_size, environment.action_space
    wanted = 0 if isinstance(space, Box) else count_choices(space)
    if size not in (0, wanted):
        raise ConfigError(
            f"env {environment.name} has the mask_size {quoted(size)} and the action_space {quoted(space)}; it must "
            f"be {wanted or 'that of choices, as real actions have no mask'}{', or 0' if wanted else ''}."
        )


def _check_kinds(environment: MultiAgentEnvironment) -> None:
    kinds = environment.kinds
    told = isinstance(kinds, Mapping) and all(
        isinstance(kind, str) and isinstance(members, tuple) for kind, members in kinds.items()
    )
    members = [i for group in kinds.values() for i in group] if told else []
    number = environment.num_agents
    if not told or (kinds and (len(members) != number or set(members) != set(range(number)))):
        raise ConfigError(
            f"env {environment.name} has kinds {quoted(kinds)}; they must hold each number of its {number} agents "
            "once, as tuples of numbers by the name of their kind."
        )
    for kind in kinds:
        check_reported_name(f"env {environment.name}", name_return(kind))
        if name_return(kind) in environment.info_metrics:
            raise ConfigError(
                f"env {environment.name} has a measure {name_return(kind)}, which is what a run reports of its kind "
                f"{kind}; give it another name."
            )

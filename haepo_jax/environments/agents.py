"""Environments of many agents, and the form in which training sees them: each agent is a lane of its own.

Agents are an axis: all have observations of one shape and actions of one space. Where a game's own differ, they are
filled up to the largest (`pad_observations`), choices that an agent does not have are masked, and `kinds` says which
agents are alike.

`as_lanes` makes an `Environment` of it whose observations, rewards and ends have a leading axis of agents. Whoever
plays it plays E environments of N agents as E N lanes, lane e N + i being agent i of environment e, so that all that
learns from lanes learns from agents.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from haepo_jax.environments.interface import ActionSpace, Environment, ObservationParts, Step


class View(NamedTuple):
    """What agents see before they act."""

    observations: jax.Array
    """`[N, *O]` float32, each agent's own."""
    action_masks: jax.Array | None = None
    """`[N, n]` boolean, True for the choices that an agent has; of MultiDiscrete actions one choice after the other.
    An agent that has one choice alone waits: its action has probability 1 and no entropy. None where
    `MultiAgentEnvironment.mask_size` is 0."""
    world: jax.Array | None = None
    """`[W]` float32, what a critic of all agents may see; None where `MultiAgentEnvironment.world_size` is 0."""


class AgentsStep(NamedTuple):
    """One transition of one environment in which N agents act at once."""

    state: Any
    view: View
    """After the step."""
    rewards: jax.Array
    """`[N]` float32, each agent's own. Where a reward is the team's, each has all of it."""
    done: jax.Array
    """`[]` boolean, True when the episode ended for all, by termination or by the environment's own time limit."""
    terminated: jax.Array
    """`[]` boolean, True when the task itself ended the episode for all."""
    info_metrics: dict[str, jax.Array]
    """`[]` float32 each, as of `Step`."""
    agents_done: jax.Array | None = None
    """`[N]` boolean, True from the step on with which the task ended for an agent, though others may go on; what it
    does then counts no more. None unless `MultiAgentEnvironment.ends_early`."""


class MultiAgentEnvironment(NamedTuple):
    """Pure functions of one environment of N agents, to be vmapped, and its shapes. `params` as of `Environment`."""

    name: str
    num_agents: int
    """N, the same in every episode."""
    observation_shape: tuple[int, ...]
    """`*O`, of one agent's observation, float32, without action mask."""
    action_space: ActionSpace
    """Of one agent. An action of all is `[N]`, or `[N, A]`."""
    max_steps: int | None
    """As of `Environment`."""
    params: dict[str, float | int]
    """As of `Environment`."""
    info_metrics: tuple[str, ...]
    """The names in `AgentsStep.info_metrics`."""
    reset: Callable[[Mapping[str, ArrayLike], jax.Array], tuple[Any, View]]
    """`(params, key) -> (state, view)`."""
    step: Callable[[Mapping[str, ArrayLike], jax.Array, Any, jax.Array], AgentsStep]
    """`(params, key, state, actions [N] or [N, A]) -> AgentsStep`. Does not reset by itself."""
    param_limits: Mapping[str, tuple[float, float]] = {}
    """As of `Environment`."""
    render: Callable[[Mapping[str, ArrayLike], Sequence[Any]], Iterator[Any]] | None = None
    """As of `Environment`."""
    mask_size: int = 0
    """n, the entries of an action mask; 0 where all actions are always allowed."""
    world_size: int = 0
    """W; 0 where there is nothing to see beyond what the agents see together."""
    kinds: Mapping[str, tuple[int, ...]] = {}
    """The numbers of the agents that are alike, by the name of their kind: each agent has one. Empty where all are."""
    ends_early: bool = False
    """Whether the task may end for some agents before it does for others."""

    def __hash__(self) -> int:
        """By identity of the functions, for use as the key of a cache."""
        return hash((self.name, self.reset, self.step))


class Seen(NamedTuple):
    """What a lane's observation holds beside what its agent sees."""

    number: bool = True
    """The agent's number, as N entries of which one is 1."""
    world: bool = False
    """What a critic of all agents sees: the environment's `world`, or all observations where it has none."""


def list_kinds(environment: MultiAgentEnvironment) -> dict[str, tuple[int, ...]]:
    """Lists the agents of each kind; they are all of one kind, `agent`, where the environment names none."""
    return dict(environment.kinds) or {"agent": tuple(range(environment.num_agents))}


@functools.cache
def as_lanes(agents: MultiAgentEnvironment, seen: Seen | None = None) -> Environment:
    """Makes the `Environment` whose lanes are agents.

    Args:
      agents: the environment.
      seen: what observations hold; `Seen()` by default.

    Returns:
      It has `num_agents` N; observations `[N, *O]`, rewards, ends and info metrics `[N]` and actions `[N]` or
      `[N, A]`, its shapes being those of one lane; where N is 1 none of them has the leading axis, as of any
      environment of one agent. A lane's observation is a vector of the parts that `Environment.parts` describes or,
      where there is the agent's own alone, as that is.

    Example:
      >>> from haepo_jax.environments.signals import make_signals
      >>> lanes = as_lanes(make_signals(num_agents=4, num_choices=3))
      >>> lanes.num_agents, lanes.observation_shape, lanes.parts.number_size
      (4, (7,), 4)
    """
    seen = Seen() if seen is None else seen
    number, own_size = agents.num_agents, math.prod(agents.observation_shape)
    world_size = (agents.world_size or number * own_size) if seen.world else 0
    groups = [members for _, members in sorted(list_kinds(agents).items())]
    kinds = tuple(next(k for k, members in enumerate(groups) if i in members) for i in range(number))
    parts = ObservationParts(
        agents.observation_shape, world_size, number if seen.number else 0, agents.mask_size, kinds
    )

    def observe(view: View) -> jax.Array:
        observations = view.observations
        if not parts.is_vector:
            return observations
        found = [observations.reshape(number, own_size)]
        if seen.world:
            world = observations if view.world is None else view.world
            found.append(jnp.broadcast_to(world.reshape(-1), (number, world_size)))
        if seen.number:
            found.append(jnp.eye(number, dtype=jnp.float32))
        if view.action_masks is not None:
            found.append(view.action_masks.astype(jnp.float32))
        return jnp.concatenate(found, axis=-1)

    def of_lanes(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], tree) if number == 1 else tree

    def reset(params: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, jax.Array]:
        state, view = agents.reset(params, key)
        return state, of_lanes(observe(view))

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, actions: jax.Array) -> Step:
        after = agents.step(params, key, state, jnp.asarray(actions)[None] if number == 1 else actions)
        ended = jnp.zeros(number, bool) if after.agents_done is None else after.agents_done
        lanes = Step(
            (),
            observe(after.view),
            after.rewards,
            ended | after.done,
            ended | after.terminated,
            {name: jnp.broadcast_to(value, (number,)) for name, value in after.info_metrics.items()},
        )
        return of_lanes(lanes)._replace(state=after.state)

    return Environment(
        agents.name,
        parts.shape,
        agents.action_space,
        agents.max_steps,
        agents.params,
        agents.info_metrics,
        reset,
        step,
        agents.param_limits,
        render=agents.render,
        mask_size=agents.mask_size,
        masked_shape=parts.shape_before_mask,
        num_agents=number,
        ends_early=agents.ends_early,
        parts=parts,
        kinds=agents.kinds if len(agents.kinds) > 1 else {},
    )


def pad_observations(observations: Sequence[jax.Array]) -> jax.Array:
    """Brings observations of agents to one shape: each is flattened and filled up with zeros to the longest.

    Example:
      >>> pad_observations([jnp.ones(2), jnp.ones((1, 3))]).tolist()
      [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if len({jnp.shape(each) for each in observations}) == 1:
        return jnp.stack([jnp.asarray(each, jnp.float32) for each in observations])
    flat = [jnp.ravel(jnp.asarray(each, jnp.float32)) for each in observations]
    size = max(each.size for each in flat)
    return jnp.stack([jnp.pad(each, (0, size - each.size)) for each in flat])


def mask_missing_choices(numbers: Sequence[int]) -> np.ndarray | None:
    """Makes the mask `[N, max(numbers)]` of agents that have so many choices each; None where all have as many.

    Example:
      >>> mask_missing_choices([2, 3]).tolist()
      [[True, True, False], [True, True, True]]
    """
    if len(set(numbers)) == 1:
        return None
    return np.arange(max(numbers)) < np.asarray(numbers)[:, None]

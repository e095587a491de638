"""JaxMARL (Rutherford et al. 2024): environments of many agents, by the steps that do not reset themselves."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxmarl
import numpy as np
from jax.typing import ArrayLike
from jaxmarl.environments import overcooked_layouts
from jaxmarl.environments.mpe.simple import SimpleMPE
from jaxmarl.environments.smax import map_name_to_scenario
from jaxmarl.environments.switch_riddle import SwitchRiddle

from haepo_jax.environments.agents import (
    AgentsStep,
    MultiAgentEnvironment,
    View,
    mask_missing_choices,
    pad_observations,
)
from haepo_jax.environments.interface import ActionSpace, Box, Discrete, MultiDiscrete
from haepo_jax.environments.libraries.states import StatePacking, key_shape
from haepo_jax.errors import ConfigError, choose

_NEVER = 2**30
_WORLD, _ALL = "world_state", "__all__"
_SHAPED = "shaped_reward"
_END_EARLY = ("SMAX", "HeuristicEnemySMAX", "LearnedPolicyEnemySMAX", "jaxnav")
"""The ids of those in which an agent may be done before others."""


def names() -> tuple[str, ...]:
    """Lists the ids."""
    return tuple(jaxmarl.registered_envs)


def find(name: str) -> Callable[..., Any]:
    """Returns what makes an environment, with the arguments of its class; `layout` and `scenario` by their names."""

    def make_jaxmarl(**arguments: Any) -> Any:
        if name == "overcooked" and "layout" in arguments:
            choose("config.env_kwargs.layout", arguments["layout"], tuple(overcooked_layouts))
            arguments["layout"] = overcooked_layouts[arguments["layout"]]
        if "scenario" in arguments:
            arguments["scenario"] = map_name_to_scenario(arguments["scenario"])
        return jaxmarl.make(name, **arguments)

    return make_jaxmarl


def adapt(name: str, env: Any) -> MultiAgentEnvironment:
    """Makes it a `MultiAgentEnvironment`: agents in the order of the library, with rewards of their own.

    A limit of time is no end of the task, but for the switch riddle, whose days are counted: to wait beyond the last
    one must not look as good as to tell. `world_state` among the observations is what a central critic sees. Where
    the library has shaped rewards beside the true ones, the number `shaping` says how much of them is added.
    """
    agents = list(env.agents)
    limit, unlimited = _split_limit(env)
    actions = _read_actions(name, [env.action_space(agent) for agent in agents])
    shown, begun = jax.eval_shape(env.reset, key_shape())
    packing, masks_of = StatePacking.of(begun), _find_masks(env, begun)
    info = jax.eval_shape(
        lambda key, state: env.step_env(key, state, actions.of_each(agents, jnp.asarray(actions.example)))[4],
        key_shape(),
        begun,
    )
    ends_early = name.partition(":")[2] in _END_EARLY
    has_mask = masks_of is not None or actions.missing is not None

    def look(state: Any, observations: Mapping[Any, Any]) -> View:
        seen = [_flatten_nested(observations[agent]) for agent in agents]
        masks = None
        if has_mask:
            allowed = jnp.ones((len(agents), actions.num_choices), bool) if masks_of is None else masks_of(state)
            masks = allowed if actions.missing is None else allowed & jnp.asarray(actions.missing)
        world = jnp.ravel(jnp.asarray(observations[_WORLD], jnp.float32)) if _WORLD in shown else None
        return View(pad_observations(seen), masks, world)

    def reset(_: Mapping[str, ArrayLike], key: jax.Array) -> tuple[Any, View]:
        observations, state = env.reset(key)
        return packing.pack(state), look(state, observations)

    def step(params: Mapping[str, ArrayLike], key: jax.Array, state: Any, chosen: jax.Array) -> AgentsStep:
        before, taken = packing.unpack(state), actions.of_each(agents, chosen)
        observations, after, rewards, done, more = env.step_env(key, before, taken)
        if unlimited is None:
            ended = {}
        elif unlimited is env:
            ended = done
        else:  # what ends without a limit of time ends by the task; the step is computed once more for these flags
            ended = unlimited.step_env(key, before, taken)[3]
        earned = jnp.stack([jnp.asarray(rewards[agent], jnp.float32).reshape(()) for agent in agents])
        if _SHAPED in info:
            shaped = jnp.stack([jnp.asarray(more[_SHAPED][agent], jnp.float32) for agent in agents])
            earned += jnp.asarray(params.get("shaping", 0.0), jnp.float32) * shaped
        return AgentsStep(
            packing.pack(after),
            look(after, observations),
            earned,
            jnp.asarray(done[_ALL], bool).reshape(()),
            jnp.asarray(ended.get(_ALL, False), bool).reshape(()),
            {},
            jnp.stack([jnp.asarray(ended[agent], bool) for agent in agents]) if ends_early else None,
        )

    first = jax.eval_shape(reset, {}, key_shape())[1]
    return MultiAgentEnvironment(
        name,
        len(agents),
        tuple(first.observations.shape[1:]),
        actions.space,
        limit,
        {"shaping": 0.0} if _SHAPED in info else {},
        (),
        reset,
        step,
        mask_size=0 if first.action_masks is None else first.action_masks.shape[1],
        world_size=0 if first.world is None else first.world.size,
        kinds=_read_kinds(env, agents),
        ends_early=ends_early,
    )


def _split_limit(env: Any) -> tuple[int | None, Any]:
    """Finds the steps of an episode, None where the task alone ends it, and the environment without that limit.

    The latter is None where nothing but the limit ends an episode, and the same where the limit is part of the task.
    """
    if isinstance(env, SwitchRiddle):
        return int(env.max_steps), env
    if hasattr(env, "num_inner_steps"):
        return int(env.num_inner_steps * env.num_outer_steps), None
    if not hasattr(env, "max_steps"):
        return None, env
    unlimited = _copy(env)
    if "_env" in vars(env):  # around another, whose limit it is
        unlimited._env = _copy(env._env)
    vars(unlimited).get("_env", unlimited).max_steps = _NEVER
    # MPE counts a step after it asks whether the time is over.
    return int(env.max_steps) + isinstance(env, SimpleMPE), unlimited


def _copy(env: Any) -> Any:
    """A copy with the same attributes; `copy.copy` asks those that hand attributes on without end."""
    other = object.__new__(type(env))
    vars(other).update(vars(env))
    return other


def _flatten_nested(observation: Any) -> jax.Array:
    leaves = jax.tree.leaves(observation)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in leaves])


def _find_masks(env: Any, state: Any) -> Callable[[Any], jax.Array] | None:
    """Finds the function from states to action masks `[N, n]`; None where all choices count at all times."""
    if isinstance(env, SwitchRiddle):
        return lambda state: _mask_outside_the_room(env, state)
    find = getattr(env, "get_legal_moves", env.get_avail_actions)
    try:
        jax.eval_shape(find, state)
    except NotImplementedError:
        return None
    if not hasattr(env.action_space(env.agents[0]), "n"):  # real actions
        return None

    def masks_of(state: Any) -> jax.Array:
        allowed = find(state)
        return pad_observations([jnp.ravel(allowed[agent]) for agent in env.agents]) > 0

    return masks_of


def _mask_outside_the_room(env: SwitchRiddle, state: Any) -> jax.Array:
    """Leaves who is not in the room one choice, to do nothing, as in the riddle of Foerster et al. (2016).

    The library takes any action of theirs and ignores it, so that nothing that happens differs; but a trajectory's
    likelihood would be two thirds noise.
    """
    is_inside = jnp.arange(env.num_agents)[:, None] == state.agent_in_room
    return is_inside | (jnp.arange(len(env.game_actions)) == env.game_actions["NOTHING"])


class _Actions(NamedTuple):
    """The actions of policies, and how they become those of the environment."""

    space: ActionSpace
    of_agent: Sequence[Callable[[jax.Array], Any]]
    """For each agent, from the policy's action to its own."""
    example: np.ndarray
    """Actions of all agents."""
    missing: np.ndarray | None = None
    """`[N, n]` boolean, the choices that each agent has; None where all have the same."""

    @property
    def num_choices(self) -> int:
        """How many choices the policy has."""
        return self.space.n if isinstance(self.space, Discrete) else 0

    def of_each(self, agents: Sequence[Any], actions: jax.Array) -> dict[Any, Any]:
        """Converts actions `[N]` or `[N, A]` of policies."""
        return {agent: self.of_agent[k](actions[k]) for k, agent in enumerate(agents)}


def _read_actions(name: str, spaces: Sequence[Any]) -> _Actions:
    if all(hasattr(space, "n") for space in spaces):
        counts = [int(space.n) for space in spaces]
        keep = [lambda action, space=space: jnp.asarray(action, space.dtype) for space in spaces]
        return _Actions(Discrete(max(counts)), keep, np.zeros(len(counts), np.int32), mask_missing_choices(counts))
    if all(hasattr(space, "num_categories") for space in spaces):
        nvecs = {tuple(int(n) for n in np.asarray(space.num_categories)) for space in spaces}
        if len(nvecs) == 1:
            (nvec,) = nvecs
            example = np.zeros((len(spaces), len(nvec)), np.int32)
            return _Actions(MultiDiscrete(nvec), [lambda action: action] * len(spaces), example)
    if all(hasattr(space, "low") for space in spaces):
        size = max(math.prod(space.shape) for space in spaces)
        scale = [_scaling(name, space) for space in spaces]
        return _Actions(Box(size), scale, np.zeros((len(spaces), size), np.float32))
    raise ConfigError(
        f"env {name} has agents whose actions are of different kinds; they must all be choices, or real numbers, or "
        "the same several choices."
    )


def _scaling(name: str, space: Any) -> Callable[[jax.Array], jax.Array]:
    """Makes the function from [-1, 1] to the bounds of an agent's actions, of which a policy may have more."""
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))
    if not np.isfinite([low, high]).all():
        raise ConfigError(f"env {name} has real actions without bounds, which no policy can give.")

    def scale(action: jax.Array) -> jax.Array:
        own = jnp.reshape(jnp.clip(action[: low.size], -1, 1), low.shape)
        return (high + low) / 2 + (high - low) / 2 * own

    return scale


def _read_kinds(env: Any, agents: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    """Reads which agents are alike; nothing where the library does not say, or not of each agent once."""
    try:
        classes = env.agent_classes
        classes = classes() if callable(classes) else classes  # a property of the base, a method of MPE
    except (NotImplementedError, AttributeError):
        return {}
    kinds = {
        str(kind): tuple(agents.index(member) for member in ([members] if isinstance(members, str) else members))
        for kind, members in classes.items()
    }
    told = sorted(member for members in kinds.values() for member in members)
    return kinds if told == list(range(len(agents))) else {}

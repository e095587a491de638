"""Networks of several agents: one for all, or one for each or for each kind, in the form of one network.

What a network sees of an agent's observation is decided here too: its own part, its number and its action mask; and a
central critic what all agents see.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import ObservationParts
from haepo_jax.networks.interface import Policy, Recurrence, Value
from haepo_jax.networks.recurrent import Carry, Memory
from haepo_jax.types import Params


def get_seen_shape(parts: ObservationParts, *, sees_number: bool, sees_world: bool = False) -> tuple[int, ...]:
    """Computes the shape of what a network sees as features.

    Args:
      parts: of an agent's observation.
      sees_number: whether the agent's number is among them; they are a vector then.
      sees_world: whether what all agents see takes the place of what one sees.
    """
    shape = (parts.world_size,) if sees_world else parts.own_shape
    if not sees_number:
        return shape
    return ((parts.world_size if sees_world else parts.own_size) + parts.number_size,)


def see_as_agent[Network: (Policy, Value)](
    network: Network, parts: ObservationParts, *, sees_number: bool, sees_world: bool = False
) -> Network:
    """Makes a network see of an agent's observation what `get_seen_shape` says, and the action mask after it.

    Args:
      network: of these features, flattened where there is a mask. A value function has none.
      parts: as of `get_seen_shape`, whose arguments the others are too.
      sees_number: see there.
      sees_world: see there.
    """

    def see(params: Params, observations: jax.Array) -> tuple[Params, jax.Array]:
        features = parts.take_world(observations) if sees_world else parts.take_own(observations)
        has_mask = parts.mask_size > 0 and isinstance(network, Policy)
        if not sees_number and not has_mask:
            return params, features
        axes = len((parts.world_size,) if sees_world else parts.own_shape)
        found = [features.reshape(*features.shape[: features.ndim - axes], -1)]
        found += [parts.take_number(observations)] if sees_number else []
        found += [parts.take_mask(observations)] if has_mask else []
        return params, jnp.concatenate(found, axis=-1) if len(found) > 1 else found[0]

    return network.map_inputs(see)


def make_one_each[Network: (Policy, Value)](
    network: Network, parts: ObservationParts, of_agent: tuple[int, ...]
) -> Network:
    """Makes several networks of one form, of which each agent has one, in the form of one network.

    Their parameters have a leading axis. All of them see every observation, and what the agent's own makes of it is
    taken: the work grows with their number.

    Args:
      network: what each is like, of whole observations.
      parts: of observations, which must have the agent's number in them.
      of_agent: for each agent, which of them it has, from 0.
    """
    number = 1 + max(of_agent)

    def take(found: Any, observations: jax.Array) -> Any:
        """Takes of `[networks, ..., *]` those `[..., *]` of the agents that see the observations."""
        which = jnp.array(of_agent)[jnp.argmax(parts.take_number(observations), axis=-1)]

        def take_leaf(leaf: jax.Array) -> jax.Array:
            index = which.reshape(1, *which.shape, *(1,) * (leaf.ndim - 1 - which.ndim))
            return jnp.take_along_axis(leaf, index, axis=0)[0]

        return _make_output(jax.tree.map(take_leaf, found))

    def init(key: jax.Array) -> Params:
        return jax.vmap(network.init)(jax.random.split(key, number))

    def apply(params: Params, observations: jax.Array) -> Any:
        found = jax.vmap(lambda one: _list_arrays(network.apply(one, observations)))(params)
        return take(found, observations)

    changed: dict[str, Any] = {"init": init, "apply": apply}
    if network.recurrence is not None:
        changed["recurrence"] = network.recurrence._replace(apply=_recur_each(network.recurrence, take))
    return network._replace(**changed)


def _recur_each(
    recurrence: Recurrence, take: Callable[[Any, jax.Array], Any]
) -> Callable[[Params, jax.Array, Memory], tuple[Carry, Any]]:
    def recur(params: Params, observations: jax.Array, memory: Memory) -> tuple[Carry, Any]:
        def recur_one(params: Params) -> tuple[Carry, Any]:
            carry, output = recurrence.apply(params, observations, memory)
            return carry, _list_arrays(output)

        carries, outputs = jax.vmap(recur_one)(params)
        # The carry after T steps is one a row; all its steps are of one agent.
        of_row = memory.resets is not None and not memory.keeps_all
        seen = observations[:, -1] if of_row else observations
        return take(carries, seen), take(outputs, observations)

    return recur


class _Gaussian(NamedTuple):
    """What a diagonal Gaussian is made of; the distribution itself keeps arrays where no tree shows them."""

    mean: jax.Array
    std: jax.Array


def _list_arrays(output: Any) -> Any:
    """Brings what a network gives to a tree of arrays that has nothing beside them."""
    if isinstance(output, distrax.MultivariateNormalDiag):
        return _Gaussian(output.loc, output.scale_diag)
    return output


def _make_output(arrays: Any) -> Any:
    """Makes what a network gives of what `_list_arrays` has made of it."""
    return distrax.MultivariateNormalDiag(*arrays) if isinstance(arrays, _Gaussian) else arrays

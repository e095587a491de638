"""Policies and value functions are made: a torso, a head for the actions or a value, and pure functions of both."""

import functools
from collections.abc import Callable

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax.environments.interface import ActionSpace, Discrete, MultiDiscrete
from haepo_jax.networks.heads import CategoricalPolicy, GaussianPolicy, Network, choose_each, choose_one
from haepo_jax.networks.interface import Policy, Recurrence, Value
from haepo_jax.networks.masks import split_mask
from haepo_jax.networks.recurrent import Carry, Memory, RecurrentTorso
from haepo_jax.networks.torsos import HEAD, MakeTorso
from haepo_jax.types import Params


def make_policy(
    feature_shape: tuple[int, ...],
    action_space: ActionSpace,
    *,
    make_torso: MakeTorso,
    initial_log_std: float,
    mask_size: int = 0,
) -> Policy:
    """Builds the policy for an environment of these shapes.

    Args:
      feature_shape: of an observation, or of what comes before the action mask in it.
      action_space: what kind of actions.
      make_torso: the function of this name gives one.
      initial_log_std: logarithm of the first standard deviation, in units of half the action range; real
        actions only.
      mask_size: entries at the end of an observation that are an action mask: as many as there are choices, or 0.

    Returns:
      The `Policy`.
    """
    name_of_torso = f"{type(make_torso()).__name__}_0"
    module: nn.Module
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    shape: tuple[int, ...]
    if isinstance(action_space, Discrete):
        shape, draw, act = (action_space.n,), jax.random.gumbel, _act_discrete
        module = CategoricalPolicy(make_torso, name_of_torso, action_space.n, choose_one)
    elif isinstance(action_space, MultiDiscrete):
        nvec = action_space.nvec
        shape, draw, act = (len(nvec), max(nvec)), jax.random.gumbel, _act_multi_discrete
        module = CategoricalPolicy(make_torso, name_of_torso, sum(nvec), functools.partial(choose_each, nvec))
    else:
        shape, draw, act = (action_space.size,), jax.random.normal, _act_real
        module = GaussianPolicy(make_torso, name_of_torso, action_space.size, initial_log_std)

    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros(feature_shape))["params"]

    def recur(
        params: Params, observations: jax.Array, memory: Memory | None = None
    ) -> tuple[Carry, distrax.Distribution]:
        features, mask = split_mask(observations, feature_shape, mask_size)
        return module.apply({"params": params}, features, memory, *(() if mask is None else (mask,)))

    def noise(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        return draw(key, (*batch, *shape))

    recurrence = _make_recurrence(make_torso(), recur)
    return Policy(init, lambda params, observations: recur(params, observations)[1], noise, act, recurrence)


def _make_recurrence[Output](
    torso: nn.Module, apply: Callable[[Params, jax.Array, Memory], tuple[Carry, Output]]
) -> Recurrence[Output] | None:
    if not isinstance(torso, RecurrentTorso):
        return None
    carry = torso.initial_carry
    return Recurrence(lambda: carry, apply)


def _act_discrete(distribution: distrax.Categorical, noise: jax.Array) -> jax.Array:
    return jnp.argmax(distribution.logits + noise, axis=-1)


def _act_multi_discrete(distribution: distrax.Independent, noise: jax.Array) -> jax.Array:
    return _act_discrete(distribution.distribution, noise)


def _act_real(distribution: distrax.MultivariateNormalDiag, noise: jax.Array) -> jax.Array:
    return distribution.mean() + distribution.stddev() * noise


def make_value(feature_shape: tuple[int, ...], *, make_torso: MakeTorso, mask_size: int = 0) -> Value:
    """Builds a value function for observations of this shape: a network like the policy's, with one output.

    Args:
      feature_shape: of an observation, or of what comes before the action mask in it.
      make_torso: the function of this name gives one.
      mask_size: entries at the end of an observation that are an action mask, which no value depends on.

    Returns:
      The `Value`.
    """
    module = Network(make_torso, 1, 1.0)

    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros(feature_shape))["params"]

    def recur(params: Params, observations: jax.Array, memory: Memory | None = None) -> tuple[Carry, jax.Array]:
        features, _ = split_mask(observations, feature_shape, mask_size)
        carry, values = module.apply({"params": params}, features, memory)
        return carry, jnp.squeeze(jnp.asarray(values), axis=-1)

    recurrence = _make_recurrence(make_torso(), recur)
    return Value(init, lambda params, observations: recur(params, observations)[1], recurrence)


def share_torso(value: Value, make_torso: MakeTorso) -> Value:
    """Makes the value function that has the torso of a policy, and a head of its own.

    Args:
      value: a value function of the same torso.
      make_torso: the function of this name has given it, to both.

    Returns:
      The `Value`. Its own parameters are those of the head; it takes `{"policy": ..., "value": ...}`, the policy's and
      these, and its gradient reaches both.
    """
    torso = make_torso()
    name, head = f"{type(torso).__name__}_0", getattr(torso, "head_name", HEAD)

    def join(params: Params, observations: jax.Array) -> tuple[Params, jax.Array]:
        return {**params["policy"][name], head: params["value"][head]}, observations

    return value.map_inputs(join)._replace(init=lambda key: {head: value.init(key)[head]})

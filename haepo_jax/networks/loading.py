"""The torso that a config names: one of ours, or one from outside."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.config import PolicyConfig
from haepo_jax.errors import ConfigError
from haepo_jax.networks.recurrent import RecurrentTorso
from haepo_jax.networks.torso_checks import check_cell, check_torso
from haepo_jax.networks.torsos import MLP, TORSOS, Activation, MakeTorso

_FIT: set[str] = set()
"""Torsos of ours, with their arguments and observations, that were found to fit: a run makes its policy several times.
Those from outside are tried each time, as their files may change."""

_KIND = "the class of a flax.linen.Module, or a function that makes one"


def make_torso(config: PolicyConfig, observation_shape: tuple[int, ...]) -> MakeTorso:
    """Prepares the torso that a config describes, and tries it on shapes alone.

    Args:
      config: names a torso: a Flax module's class, or a function that makes a module. Where its signature has
        `observation_shape`, `hidden_sizes` or `activation` (a function), it is given them. A recurrent cell, an
        `nn.RNNCellBase`, follows an MLP of all hidden sizes but the last, which is the `features` of a cell's class.
      observation_shape: of one observation.

    Returns:
      A function that makes the module, at each call a new one.

    Raises:
      ConfigError: a torso or an activation that cannot be imported, that does not take these arguments, or that makes
        no Flax module; or a module that is no torso: it fails, returns something else than features `[..., F]`, has
        mutable state, parameters that are not float32 or have the name of the head, or draws random numbers; or a cell
        that changes the structure of its carry.
    """
    path, name = "policy.network", config.network
    factory = components.load(path, name, _makes_torsos, _KIND) if components.is_outside(name) else TORSOS[name]
    sizes, activation = tuple(config.hidden_sizes), _activation(config.activation)
    offered: dict[str, Any] = {
        "observation_shape": observation_shape,
        "hidden_sizes": sizes,
        "activation": activation,
    }
    if is_cell(factory):
        if not sizes:
            raise ConfigError(
                f"config.policy.hidden_sizes must not be empty where config.{path} is {components.show_name(name)}: "
                "the last is the size of what it remembers."
            )
        offered["features"] = sizes[-1]
    known = components.parameters_of(factory)
    make = functools.partial(factory, **{key: value for key, value in offered.items() if key in known})
    components.check_arguments(path, make, kwargs=config.network_kwargs)
    make_module: Callable[[], Any] = functools.partial(make, **config.network_kwargs)
    where = f"config.{path} {components.show_name(name)}"
    is_ours = not components.is_outside(name) and not components.is_outside(config.activation)
    described = repr((name, sizes, config.activation, config.network_kwargs, observation_shape))
    is_new = not is_ours or described not in _FIT
    if is_cell(factory):
        encoder = functools.partial(MLP, observation_shape, sizes[:-1], activation)
        input_size = sizes[-2] if len(sizes) > 1 else math.prod(observation_shape)
        if is_new:
            check_cell(where, factory, make_module, input_size)
        make_module = functools.partial(RecurrentTorso, observation_shape, encoder, input_size, make_module)
    if is_new:
        check_torso(where, factory, make_module, observation_shape)
    if is_ours:
        _FIT.add(described)
    return make_module


def _activation(name: Any) -> Activation:
    if not components.is_outside(name):
        return getattr(jax.nn, name)
    outside = components.load("policy.activation", name)
    who = f"config.policy.activation {components.show_name(name)}"

    def play(array: jax.Array) -> jax.Array:
        what = f"real numbers of the shape of its argument, {array.shape}"
        return components.checked_numbers(who, outside(array), array.shape, what, real=True)

    with components.failures_named(who, outside):
        jax.eval_shape(play, jnp.zeros((2, 3)))
    return outside


def _makes_torsos(found: Any) -> bool:
    """Whether it is a class or a function; a module that is made already can be called too, with observations."""
    return callable(found) and not isinstance(found, nn.Module)


def is_cell(factory: Callable) -> bool:
    """Says whether a torso's factory is the class of a recurrent cell, which layers come before."""
    return isinstance(factory, type) and issubclass(factory, nn.RNNCellBase)

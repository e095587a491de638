"""Sizes of the networks of a member, by their shapes alone."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from haepo_jax.algorithms import make_algorithm
from haepo_jax.config import ExperimentConfig
from haepo_jax.config.settings import RECURRENT
from haepo_jax.environments import Environment

_WITH_SIZES = ("mlp", *RECURRENT)  # networks whose sizes are those of `config.policy.hidden_sizes`


class NetworkSizes(NamedTuple):
    """Sizes of the networks of one member."""

    params: int
    """Numbers that they hold."""
    widths: list[int]
    """Numbers that each layer of the policy makes of one observation."""
    setting: str
    """The setting that decides them."""


def network_sizes(config: ExperimentConfig, environment: Environment) -> NetworkSizes:
    """Computes the sizes of the networks of a member; nothing is allocated."""
    policy = make_algorithm(config, environment).policy
    params = jax.eval_shape(lambda: policy.init(jax.random.key(0)))
    observation = jax.ShapeDtypeStruct(environment.observation_shape, jnp.float32)
    program = jax.make_jaxpr(lambda params, observation: policy.apply(params, observation).mode())(params, observation)
    return NetworkSizes(
        sum(leaf.size for leaf in jax.tree.leaves(params)),
        list(_widths(program)),
        "config.policy.hidden_sizes" if config.policy.network in _WITH_SIZES else "config.policy.network_kwargs",
    )


def _widths(program: Any) -> Iterator[int]:
    """Lists the sizes of the results of all matrix products and convolutions of a traced function."""
    for equation in getattr(program, "jaxpr", program).eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield from (math.prod(variable.aval.shape) for variable in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
                    yield from _widths(inner)

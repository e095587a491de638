"""Rules by which the reference policy follows the trained one, each an (init, update) pair.

A reference equal to the policy that sampled the batch has a KL term without gradient, so every rule here
lags behind it: see docs/method.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.methods import ReferenceConfig
from haepo_jax.types import Params


class ReferenceRule(NamedTuple):
    """How a reference begins and moves."""

    init: Callable[[Params], Params | None]
    """`params -> reference`; None when there is no reference."""
    update: Callable[[ReferenceConfig, Params | None, Params, Params, jax.Array], Params | None]
    """`(config, reference, params before the update, params after it, number of updates done) -> reference`."""


def make_reference(name: str) -> ReferenceRule:
    """The rule with this name.

    ========== ==================================================================================
    name       reference during update u (theta_u samples its batch)
    ========== ==================================================================================
    `none`     none
    `frozen`   theta_0
    `periodic` the newest theta_v with v a multiple of `reference_period`, v <= u
    `ema`      r_u = decay r_{u-1} + (1 - decay) theta_u, from r_0 = theta_0
    `previous` theta_{u-1}
    ========== ==================================================================================

    Args:
      name: one of `haepo_jax.config.REFERENCES`.

    Returns:
      The `ReferenceRule`; its numbers (period, decay) are read from the config at each update.
    """
    return _RULES[name]


def _periodic(config: ReferenceConfig, reference: Params, before: Params, after: Params, done: jax.Array) -> Params:
    del before
    due = done % config.reference_period == 0
    return jax.tree.map(lambda old, new: jnp.where(due, new, old), reference, after)


def _ema(config: ReferenceConfig, reference: Params, before: Params, after: Params, done: jax.Array) -> Params:
    del before, done
    decay = config.reference_decay
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, reference, after)


def _copy(params: Params) -> Params:
    """A copy of its own, so that parameters and reference can both be donated."""
    return jax.tree.map(jnp.copy, params)


_RULES = {
    "none": ReferenceRule(lambda params: None, lambda config, reference, before, after, done: None),
    "frozen": ReferenceRule(_copy, lambda config, reference, before, after, done: reference),
    "periodic": ReferenceRule(_copy, _periodic),
    "ema": ReferenceRule(_copy, _ema),
    "previous": ReferenceRule(_copy, lambda config, reference, before, after, done: before),
}

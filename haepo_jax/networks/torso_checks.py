"""Refusals of what is no torso, or no recurrent cell, from outside. Nothing is computed: shapes are enough."""

from collections.abc import Callable
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.networks.recurrent import make_initial_carry, repeat_carry
from haepo_jax.networks.torsos import HEAD
from haepo_jax.types import Params

_LEADING = ((), (2,), (2, 3))
"""Axes with which a torso is tried: an observation alone, a batch, a batch over time."""


def check_cell(where: str, factory: Any, make: Callable[[], Any], input_size: int) -> None:
    """Refuses a cell whose carry does not stay as it is. Nothing is computed but the first."""

    def play() -> Any:
        inputs = jnp.zeros((2, input_size))
        carry = repeat_carry(initial, 2)
        variables = make().init(jax.random.key(0), carry, inputs)
        return carry, make().apply(variables, carry, inputs)[0]

    with components.failures_named(f"{where} at inputs of {input_size} numbers", factory):
        initial = make_initial_carry(make(), input_size)
        before, after = jax.eval_shape(play)
    shapes = [jax.tree_util.tree_map(lambda leaf: leaf.shape, carry) for carry in (before, after)]
    if shapes[0] != shapes[1] or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(before)):
        raise ConfigError(
            f"{where} makes of a carry {_show_tree(before)} one of {_show_tree(after)}; it must be of real "
            "numbers, and of the shapes that initialize_carry gives it."
        )


def _show_tree(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)).replace("'", "")


def check_torso(where: str, factory: Any, make: Callable[[], Any], observation_shape: tuple[int, ...]) -> None:
    """Refuses a module that is no torso. Nothing is computed."""

    def play() -> list[Any]:
        module = make()
        if isinstance(module, nn.RNNCellBase):
            raise ConfigError(f"{where} makes a recurrent cell, {type(module).__name__}; name the class of the cell.")
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{where} must make a flax.linen.Module, got {quoted(module)}.")
        variables = module.init(jax.random.key(0), jnp.zeros(observation_shape))
        if others := sorted(set(variables) - {"params"}):
            raise ConfigError(
                f"{where} has mutable state ({', '.join(others)}), which no update would carry on; a torso has "
                "parameters alone."
            )
        _check_parameters(where, getattr(module, "head_name", HEAD), variables.get("params", {}))
        return [module.apply(variables, jnp.zeros((*axes, *observation_shape))) for axes in _LEADING]

    try:
        with components.failures_named(f"{where} at observations of shape {observation_shape}", factory):
            features = jax.eval_shape(play)
    except ConfigError as error:
        if not isinstance(error.__cause__, flax.errors.InvalidRngError):
            raise
        raise ConfigError(
            f"{where} draws random numbers, as dropout does, which a torso may not: its features must follow from "
            "parameters and observations alone."
        ) from error
    for axes, found in zip(_LEADING, features, strict=True):
        is_array = isinstance(found, jax.ShapeDtypeStruct)
        wanted = is_array and found.shape[:-1] == axes and found.ndim == len(axes) + 1 and found.shape[-1] > 0
        if not wanted or not jnp.issubdtype(found.dtype, jnp.floating):
            given = f"{found.dtype}{list(found.shape)}" if is_array else f"a {type(found).__name__}"
            raise ConfigError(
                f"{where} maps observations of shape {(*axes, *observation_shape)} to {given}; it must be real "
                f"features of shape ({', '.join([*map(str, axes), 'F'])}), of any size F, whatever axes lead."
            )


def _check_parameters(where: str, head: str, params: Params) -> None:
    """Refuses the parameters of a torso that no gradient step could move, or that hide those of the head."""
    if head in params:
        raise ConfigError(
            f"{where} has a layer or a parameter called {head}, as the layer after it is called; give it another name."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype != jnp.float32:
            raise ConfigError(
                f"{where} has the parameter {jax.tree_util.keystr(path, simple=True, separator='.')} in {leaf.dtype}; "
                "all must be float32, whatever it computes in."
            )

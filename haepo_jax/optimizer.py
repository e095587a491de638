"""The optimiser that a config describes; everything in this package that learns uses it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from haepo_jax import components
from haepo_jax.config import OptimizerConfig
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods.schedules import make_schedule
from haepo_jax.types import Params

_TRANSFORMS = {"adam": optax.scale_by_adam}


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Makes a global-norm clip, the transform of the config, and a step against the transformed gradient.

    Args:
      config: the settings, whose numbers may be traced.
      num_steps: gradient steps in the whole run, over which the schedule falls to 0.

    Raises:
      ConfigError: a transform or a schedule from outside that cannot be used.
    """
    schedule = make_schedule(
        "optimizer.schedule",
        config.schedule,
        num_steps,
        kwargs=config.schedule_kwargs,
        params=config.schedule_params,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        _transform(config),
        optax.scale_by_schedule(lambda count: -config.learning_rate * schedule(count)),
    )


def at_step(state: Any, step: jax.Array) -> Any:
    """Sets how far the schedule of an optimiser of `make_optimizer` has come.

    Args:
      state: of the optimiser.
      step: int32 gradient steps, of the `num_steps` of the run, that count as done.

    Returns:
      The state, otherwise as it was: a transform that counts its steps counts those it has seen.
    """
    clip, transform, schedule = state
    return clip, transform, schedule._replace(count=step)


def _transform(config: OptimizerConfig) -> optax.GradientTransformation:
    name, path = config.transform, "optimizer.transform"
    make = components.load(path, name) if components.is_outside(name) else _TRANSFORMS[name]
    transform = components.call(path, make, kwargs=config.transform_kwargs, params=config.transform_params)
    if not isinstance(transform, optax.GradientTransformation):
        raise ConfigError(
            f"config.{path} {name} makes {quoted(transform)}; it must make an optax.GradientTransformation."
        )
    return _checked(f"config.{path} {name}", make, transform) if components.is_outside(name) else transform


def _checked(who: str, make: Any, transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Holds a transform from outside to its types: updates of another shape would be broadcast in silence."""

    def init(params: Params) -> Any:
        with components.failures_named(who, make):
            # A loop carries the state, in which a Python number would be of a dtype that each step may change.
            return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), transform.init(params))

    def update(gradients: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        with components.failures_named(who, make):
            updates, after = transform.update(gradients, state, params)
        components.check_same_arrays(f"{who} makes updates", "of the parameters", gradients, updates)
        components.check_same_arrays(f"{who} makes a state", "of the state before", state, after)
        return updates, after

    return optax.GradientTransformation(init, update)

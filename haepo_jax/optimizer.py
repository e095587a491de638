"""The optimiser that a config describes; everything in this package that learns uses it."""

from typing import Any

import jax
import optax

from haepo_jax.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Adam after a global-norm clip; learning rate and clip may be traced.

    Args:
      config: the settings.
      num_steps: gradient steps in the whole run, over which the schedule falls to 0.
    """
    schedule = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, num_steps),
        "cosine": optax.cosine_decay_schedule(1.0, num_steps),
    }[config.schedule]
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(),
        optax.scale_by_schedule(lambda count: -config.learning_rate * schedule(count)),
    )


def at_step(state: Any, step: jax.Array) -> Any:
    """Sets how far the schedule of an optimiser of `make_optimizer` has come.

    Args:
      state: of the optimiser.
      step: int32 gradient steps, of the `num_steps` of the run, that count as done.

    Returns:
      The state, otherwise as it was.
    """
    clip, adam, schedule = state
    return clip, adam, schedule._replace(count=step)

"""The rewards that are learnt from: the environment's, or what `config.returns` makes of them.

What a run reports of its episodes stays the environment's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.config import ExperimentConfig, TracedConfig
from haepo_jax.rollouts.steps import Steps, steps_of

MakeRewards = Callable[[TracedConfig, Any], jax.Array]
"""`(traced, batch) -> rewards [N, T]`."""


def make_rewards(config: ExperimentConfig) -> MakeRewards:
    """Makes the function that gives the rewards of a batch, `Trajectories` or a `Segment`.

    Raises:
      ConfigError: `config.returns` cannot be loaded.
    """
    name, path = config.returns, "returns"
    if not components.is_outside(name):
        return lambda traced, batch: batch.rewards
    outside = components.load(path, name)

    def rewards_of(traced: TracedConfig, batch: Any) -> jax.Array:
        steps = steps_of(batch)
        assert isinstance(steps, Steps)  # a config with `returns` keeps them
        arguments = {"kwargs": config.returns_kwargs, "params": traced.returns_params}
        rewards = components.call(path, outside, steps, **arguments)
        rewards = components.checked_numbers(
            f"config.{path} {name}", rewards, steps.rewards.shape, f"a number for each step, {steps.rewards.shape}"
        )
        # Nothing is learnt through the rewards, nor from steps after an episode's end.
        return jnp.where(steps.mask, jax.lax.stop_gradient(rewards.astype(jnp.float32)), 0)

    return rewards_of

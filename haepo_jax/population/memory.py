"""The memory of a device, and the `config.memory` that a population trains with where that is left open.

Measured on CPU, `remat` is the fastest (docs/long_horizon.md); where the steps of an update do not fit, `recompute` is
all that is left.
"""

import dataclasses
import math

import jax

from haepo_jax.config import ExperimentConfig, find_need_of_steps, get_method_settings
from haepo_jax.environments import Environment
from haepo_jax.environments.interface import action_type
from haepo_jax.methods import get_history
from haepo_jax.runtime import host

_SHARE = 0.8  # of a device's memory that an update's steps may take; the rest is for all else
_COPIES = 2  # of the steps: themselves, and what a gradient adds to them


def device_bytes() -> int:
    """Reads the memory of a device; on CPU, its share of the machine's."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return host.memory_bytes() // jax.local_device_count()


def with_memory(config: ExperimentConfig, environment: Environment, num_steps: int) -> ExperimentConfig:
    """Chooses `config.memory` where it is `auto`: the fastest that fits.

    Args:
      config: the experiment.
      environment: where it plays.
      num_steps: the most steps that a device holds at once, those of all members that play together.
    """
    if config.memory != "auto":
        return config
    num_batches = 1 + get_history(get_method_settings(config))
    fits = num_batches * num_steps * step_bytes(environment) * _COPIES <= _SHARE * device_bytes()
    kept = fits or find_need_of_steps(config) is not None
    return dataclasses.replace(config, memory="remat" if kept else "recompute")


def step_bytes(environment: Environment) -> int:
    """Computes the bytes that `Trajectories` keep of a step."""
    floats = [
        math.prod(environment.observation_shape),
        math.prod(action_type(environment.action_space).shape),
        len(("log_prob", "reward", "entropy")),
        len(environment.info_metrics),
    ]
    return 4 * sum(floats) + 1

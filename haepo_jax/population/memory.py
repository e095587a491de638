"""The memory of a device, and what follows for a population where its config leaves it open.

`config.memory`, `config.piece_rows` and `config.unrolled_steps` decide no number but by rounding, and are chosen here
by the device. Measured on CPU, `remat` in small pieces is the fastest (docs/long_horizon.md); on a GPU larger pieces,
and `store` where all that it computes is one of them (docs/performance.md). Where the steps of an update do not fit,
`recompute` is all that is left.
"""

import dataclasses
import math

import jax

from haepo_jax.algorithms.replay import ROWS
from haepo_jax.config import ExperimentConfig, find_need_of_steps, get_method, get_method_settings
from haepo_jax.environments import Environment
from haepo_jax.environments.interface import action_type
from haepo_jax.methods import Sees, get_history
from haepo_jax.population.network_sizes import network_sizes
from haepo_jax.runtime import host

GPU = "gpu"
"""The platform, as `jax.Device.platform` has it."""

_SHARE = 0.8  # of a device's memory that an update's steps may take; the rest is for all else
_COPIES = 2  # of the steps: themselves, and what a gradient adds to them
_MOST_ROWS = 8192  # of a piece on a GPU
_SHARE_OF_PIECES = 0.25  # of a GPU's memory that the pieces of all its members may take
_UNROLLED_STEPS = {GPU: 5}  # of platforms on which a step is so short that starting its kernels counts
_FLOAT = 4


def device_bytes() -> int:
    """Reads the memory of a device; on CPU, its share of the machine's."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return host.memory_bytes() // jax.local_device_count()


def with_memory(
    config: ExperimentConfig, environment: Environment, num_steps: int, *, members: int = 1, platform: str = "cpu"
) -> ExperimentConfig:
    """Chooses `config.memory` where it is `auto`, the fastest that fits, and how programs are cut for the device.

    Args:
      config: the experiment.
      environment: where it plays.
      num_steps: the most steps that a device holds at once, those of all members that play together.
      members: how many do so.
      platform: of the device, as `jax.Device.platform` has it.

    Returns:
      The config with `memory`, `piece_rows` and `unrolled_steps` in place.
    """
    rows = config.piece_rows
    if rows is None:
        rows = choose_piece_rows(platform, members, activation_bytes(config, environment)) if platform == GPU else ROWS
    return dataclasses.replace(
        config,
        memory=_choose_memory(config, environment, num_steps, members * rows, platform),
        piece_rows=rows,
        unrolled_steps=config.unrolled_steps or _UNROLLED_STEPS.get(platform, 1),
    )


def choose_piece_rows(platform: str, members: int, bytes_of_row: int) -> int:
    """Chooses the steps x episodes of a piece of the gradient.

    Args:
      platform: of the device.
      members: that take a piece each at the same time.
      bytes_of_row: what the gradient keeps of a step.

    Returns:
      `replay.ROWS`, and on a GPU the largest power of two up to 8,192 with which the pieces of all members take a
      quarter of its memory.
    """
    if platform != GPU:
        return ROWS
    fit = int(_SHARE_OF_PIECES * device_bytes()) // (members * bytes_of_row)
    return max(ROWS, min(_MOST_ROWS, 1 << max(fit, 1).bit_length() - 1))


def activation_bytes(config: ExperimentConfig, environment: Environment) -> int:
    """Computes the bytes that a gradient keeps of a step: what each layer makes of it, before and after activation.

    Those of CartPole's 64-64-2 are 1,040, by which 1,024 members with 16 x 500 steps need 7.9 GiB; on an H100 8.3 GiB
    of temporaries were seen (docs/performance.md).
    """
    return 2 * sum(network_sizes(config, environment).widths) * _FLOAT


def _choose_memory(
    config: ExperimentConfig, environment: Environment, num_steps: int, piece_steps: int, platform: str
) -> str:
    """Chooses the memory; `piece_steps` are those of one piece of all members."""
    if config.memory != "auto":
        return config.memory
    num_batches = 1 + get_history(get_method_settings(config))
    fits = num_batches * num_steps * step_bytes(environment) * _COPIES <= _SHARE * device_bytes()
    if not fits and find_need_of_steps(config) is None:
        return "recompute"
    # Then `store` computes no step that a piece would not, and once less often; segments are kept whatever is set.
    whole = platform == GPU and num_batches * num_steps <= piece_steps
    return "store" if fits and whole and get_method(config).sees is not Sees.SEGMENTS else "remat"


def step_bytes(environment: Environment) -> int:
    """Computes the bytes that `Trajectories` keep of a step."""
    floats = [
        math.prod(environment.observation_shape),
        math.prod(action_type(environment.action_space).shape),
        len(("log_prob", "reward", "entropy")),
        len(environment.info_metrics),
    ]
    return 4 * sum(floats) + 1

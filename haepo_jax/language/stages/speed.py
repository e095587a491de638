"""How fast a stage learns: tokens of responses a second, and what share of the devices' arithmetic that takes."""

import functools
from collections.abc import Callable, Collection

import jax

from haepo_jax.types import Params

_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "TPU v6 lite": 918e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v4": 275e12,
}
"""Floating-point operations a second in dense bfloat16 products, by the makers' data sheets; the first name that a
device's kind contains counts."""
_OF_STAGE = {"sft": 6, "reward": 6, "rl": 8}
"""A parameter and token: two of a forward pass and four of a gradient, and two of the reference policy in `rl`."""


def count_flops(stage: str, size: int, *, adapter: bool) -> int:
    """Counts the floating-point operations that a response's token takes at least, with all that is not a product of
    parameters, with prompts, padding and what is computed again left out.

    Args:
      stage: `sft`, `reward` or `rl`.
      size: parameters of the model.
      adapter: whether those are fixed, so that no gradient of them is computed.
    """
    return (_OF_STAGE[stage] - 2 * adapter) * size


def find_peak(kind: str, dtype: str) -> float | None:
    """Finds the floating-point operations a second of a device's matrix products.

    Args:
      kind: as `jax.Device.device_kind` has it.
      dtype: of the computation.

    Returns:
      None where it is not known, as for CPUs, and for float32, whose products differ in their precision.
    """
    if dtype != "bfloat16":
        return None
    return next((peak for name, peak in _PEAKS.items() if name.lower() in kind.lower()), None)


def compute_utilisation(
    tokens_per_second: float, flops: int, devices: Collection[jax.Device], dtype: str
) -> float | None:
    """Computes the share of the devices' peak that `flops` operations a token take; None where that is not known."""
    peak = find_peak(next(iter(devices)).device_kind, dtype)
    return None if peak is None else tokens_per_second * flops / (peak * len(devices))


def make_utilisation(stage: str, base: Params | None, trained: Params, dtype: str) -> Callable[[float], float | None]:
    """Makes `tokens a second -> share of the peak` for a stage, None where the peak is not known.

    Args:
      stage: its name.
      base: the parameters that an adapter adapts; None where all are trained.
      trained: what is trained, on the devices.
      dtype: of the computation.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(trained if base is None else base))
    flops = count_flops(stage, size, adapter=base is not None)
    devices = jax.tree.leaves(trained)[0].sharding.device_set
    return functools.partial(compute_utilisation, flops=flops, devices=devices, dtype=dtype)

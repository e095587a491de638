"""The machine that figures are from."""

import os
import platform
from typing import Any

import jax


def describe() -> dict[str, Any]:
    """Its devices, cores and processor, and the jax that ran on them."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "devices": jax.device_count(),
        "device_kind": device.device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
    }

"""The machine that figures are from."""

import platform
from typing import Any

import jax

from haepo_jax.runtime import startup


def describe_machine() -> dict[str, Any]:
    """Its devices, cores and processor, and the jax that ran on them."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "devices": jax.device_count(),
        "device_kind": device.device_kind,
        "cores": startup.usable_cores(),
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
    }

"""The start of a process, before JAX computes: devices, kept memory, a cache, and no flag that stops a sound run.

The command lines call `setup`; a program of one's own that shall give their bits at their speed calls it too.
"""

import ctypes
import os

import jax

from haepo_jax.errors import ConfigError
from haepo_jax.runtime import compilation_cache

# Flags of JAX for debugging, the values by which they stop sound runs, and why they do.
_FORBIDDEN = ("disallow", "disallow_explicit")
_UNUSABLE = {
    "jax_disable_jit": (("True",), "a run is a compiled program"),
    "jax_debug_nans": (
        ("True",),
        "NaN stands for a metric that is not there; a member that diverges is stopped and reported without it",
    ),
    "jax_debug_key_reuse": (("True",), "episodes are played again from the keys that they were played with"),
    "jax_numpy_rank_promotion": (("raise",), "environments rely on what it forbids"),
    "jax_numpy_dtype_promotion": (("strict",), "environments rely on what it forbids"),
    "jax_transfer_guard": (_FORBIDDEN, "a run moves data between host and devices"),
    "jax_transfer_guard_host_to_device": (_FORBIDDEN, "a run moves data to devices"),
    "jax_transfer_guard_device_to_host": (_FORBIDDEN, "a run moves data from devices"),
    "jax_transfer_guard_device_to_device": (_FORBIDDEN, "a run moves data between devices"),
}


def setup() -> None:
    """Readies this process as the command lines do; to be called before JAX computes anything.

    Each CPU core becomes a device, which decides how many members a device holds and so their bits; memory that is
    freed is kept; compiled programs are kept in the cache of `compilation_cache.default_directory`.

    Raises:
      ConfigError: JAX has computed already, with other devices, or has a flag with which no run can work.

    Example:
      >>> from haepo_jax import runtime
      >>> runtime.setup()  # doctest: +SKIP
    """
    use_every_core()
    keep_freed_memory()
    compilation_cache.use_default()
    check_flags()


def use_every_core() -> None:
    """Makes each CPU core a device, as a member's small operations do not fill more than one.

    A number of devices that was asked for by `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES` stays.

    Raises:
      ConfigError: JAX has started with another number of devices.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked or jax.config.jax_num_cpu_devices > 0:
        return
    try:
        jax.config.update("jax_num_cpu_devices", usable_cores())
    except RuntimeError:
        raise ConfigError(
            "haepo_jax.runtime.setup() must be called before JAX computes anything, as it decides how many devices "
            "there are; imports may compute too, and gymnax's do, so call it above them."
        ) from None


def usable_cores() -> int:
    """Lists the CPU cores that this process may use; where the system does not say, as on macOS, all of them."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Lets the process keep what it frees, where the C library is glibc.

    A program's temporaries are allocated anew at each call, and the largest are otherwise given back to the system
    each time: to get them again, zeroed page by page, took 40% of an update of a language model on a CPU.
    """
    if os.name != "posix":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # as malloc.h numbers them
        set_option(mmap_max, 0)
        set_option(trim_threshold, 2**31 - 1)
        set_option(top_pad, 2**28)


def check_flags() -> None:
    """Refuses flags of JAX with which a sound run fails, before anything is made.

    Raises:
      ConfigError: one of them is set.
    """
    for name, (values, why) in _UNUSABLE.items():
        value = getattr(jax.config, name)
        text = str(getattr(value, "value", value))  # some are enumerations
        if text in values:
            raise ConfigError(f"{name.upper()}={text} cannot be used here: {why}. Leave it unset.")

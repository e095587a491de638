"""Devices for tests that need several, and skip where there are fewer: on one GPU, or one CPU device by XLA_FLAGS."""

import jax
import pytest


def some_devices(number):
    """The first devices; the test is skipped, with a word, where there are fewer.

    Args:
      number: how many.
    """
    there = jax.devices()
    if len(there) < number:
        pytest.skip(f"needs {number} devices, and there {'is one' if len(there) == 1 else f'are {len(there)}'}")
    return there[:number]

"""Names of types that the whole package shares."""

from collections.abc import Callable
from typing import Any

import jax

Params = Any
"""Parameters of a network: a tree of arrays."""

Metrics = dict[str, jax.Array]
"""Scalars by name."""

Settings = dict[str, jax.Array]
"""Traced settings by dotted name."""

Loss = Callable[[Params], tuple[jax.Array, Metrics]]
"""`params -> (loss, metrics)`, the batch being fixed."""

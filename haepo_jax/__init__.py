"""HAEPO (History-Aggregated Exploratory Policy Optimization, arXiv 2508.18884) in JAX.

Importing this gives the losses and needs only jax and chex. The parts that train on environments
(`haepo_jax.population.member`, `haepo_jax.population.population`, ...) are imported by name when wanted.
"""

from haepo_jax import losses
from haepo_jax.losses import *  # noqa: F403
from haepo_jax.losses import __all__ as _loss_names

__version__ = "0.3.0"

__all__ = ["losses", *_loss_names]  # noqa: PLE0604

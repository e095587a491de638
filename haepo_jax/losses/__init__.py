"""Pure losses: arrays in, `(loss, metrics)` out. Needs jax and chex, and nothing else of this package.

The last axis holds the M trajectories of a group that compete (`[..., M]`), or the T steps of a
trajectory (`[..., M, T]`); leading axes are independent groups. `where` masks are boolean, True = valid.
"""

from haepo_jax.losses.baselines import ReinforceMetrics, reinforce_loss
from haepo_jax.losses.haepo import HaepoMetrics, haepo_coefficients, haepo_loss
from haepo_jax.losses.likelihood import trajectory_log_likelihood
from haepo_jax.losses.returns import (
    NORMALIZATIONS,
    first_episode_mask,
    normalize_returns,
    returns_sum_not_positive,
    trajectory_returns,
)
from haepo_jax.losses.weights import (
    SCORES,
    effective_sample_size,
    plackett_luce_log_weights,
    trajectory_scores,
    weights_entropy,
    weights_kl,
)

__all__ = [
    "NORMALIZATIONS",
    "SCORES",
    "HaepoMetrics",
    "ReinforceMetrics",
    "effective_sample_size",
    "first_episode_mask",
    "haepo_coefficients",
    "haepo_loss",
    "normalize_returns",
    "plackett_luce_log_weights",
    "reinforce_loss",
    "returns_sum_not_positive",
    "trajectory_log_likelihood",
    "trajectory_returns",
    "trajectory_scores",
    "weights_entropy",
    "weights_kl",
]

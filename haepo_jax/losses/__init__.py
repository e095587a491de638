"""Pure losses: arrays in, `(loss, metrics)` out. Needs jax and chex, and nothing else of this package.

The last axis holds the M trajectories of a group that compete (`[..., M]`), or the T steps of a
trajectory (`[..., M, T]`); leading axes are independent groups. `where` masks are boolean, True = valid.
"""

from haepo_jax.losses._haepo_terms import PROJECTIONS, HaepoMetrics
from haepo_jax.losses.advantages import generalized_advantages, group_relative_advantages, leave_one_out_advantages
from haepo_jax.losses.clipped import (
    AGGREGATIONS,
    ClippedSurrogateMetrics,
    ClippedValueMetrics,
    GrpoMetrics,
    approximate_kl,
    clipped_surrogate_loss,
    clipped_value_loss,
    grpo_loss,
)
from haepo_jax.losses.episodes import SegmentEpisodes, episodes_in_segment
from haepo_jax.losses.from_log_probs import haepo_from_log_probs
from haepo_jax.losses.haepo import haepo_coefficients, haepo_loss
from haepo_jax.losses.haepo_segments import haepo_segment_loss
from haepo_jax.losses.likelihood import trajectory_log_likelihood
from haepo_jax.losses.preferences import PAIRS, DpoMetrics, dpo_loss, preference_pairs
from haepo_jax.losses.reductions import mean_over_groups
from haepo_jax.losses.reinforce import ReinforceMetrics, RlooMetrics, reinforce_loss, rloo_loss
from haepo_jax.losses.returns import (
    NORMALIZATIONS,
    first_episode_mask,
    normalize_returns,
    returns_sum_not_positive,
    trajectory_returns,
)
from haepo_jax.losses.segments import (
    GROUPINGS,
    group_segments,
    label_states,
    segment_lengths,
    segment_log_likelihoods,
    segment_returns,
    take_starts,
)
from haepo_jax.losses.targets import TARGETS, target_log_weights, target_temperature
from haepo_jax.losses.weights import (
    SCORES,
    effective_sample_size,
    plackett_luce_log_weights,
    trajectory_scores,
    weights_entropy,
    weights_kl,
)

__all__ = [
    "AGGREGATIONS",
    "GROUPINGS",
    "NORMALIZATIONS",
    "PAIRS",
    "PROJECTIONS",
    "SCORES",
    "TARGETS",
    "ClippedSurrogateMetrics",
    "ClippedValueMetrics",
    "DpoMetrics",
    "GrpoMetrics",
    "HaepoMetrics",
    "ReinforceMetrics",
    "RlooMetrics",
    "SegmentEpisodes",
    "approximate_kl",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "dpo_loss",
    "effective_sample_size",
    "episodes_in_segment",
    "first_episode_mask",
    "generalized_advantages",
    "group_relative_advantages",
    "group_segments",
    "grpo_loss",
    "haepo_coefficients",
    "haepo_from_log_probs",
    "haepo_loss",
    "haepo_segment_loss",
    "label_states",
    "leave_one_out_advantages",
    "mean_over_groups",
    "normalize_returns",
    "plackett_luce_log_weights",
    "preference_pairs",
    "reinforce_loss",
    "returns_sum_not_positive",
    "rloo_loss",
    "segment_lengths",
    "segment_log_likelihoods",
    "segment_returns",
    "take_starts",
    "target_log_weights",
    "target_temperature",
    "trajectory_log_likelihood",
    "trajectory_returns",
    "trajectory_scores",
    "weights_entropy",
    "weights_kl",
]

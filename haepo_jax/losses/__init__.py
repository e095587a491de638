"""Pure losses: arrays in, `(loss, metrics)` out. Needs jax and chex, and nothing else of this package.

The last axis holds the M trajectories of a group that compete (`[..., M]`), or the T steps of a
trajectory (`[..., M, T]`); leading axes are independent groups. `where` masks are boolean, True = valid.
"""

from haepo_jax.losses import presets
from haepo_jax.losses._haepo_terms import PROJECTIONS, HaepoMetrics
from haepo_jax.losses._ratio_terms import AGGREGATIONS, LEVELS, SHAPES, PolicyRatioMetrics
from haepo_jax.losses.advantages import (
    generalized_advantages,
    group_relative_advantages,
    leave_one_out_advantages,
    maxrl_advantages,
    reinforce_plus_plus_advantages,
)
from haepo_jax.losses.clipped import (
    ClippedSurrogateMetrics,
    ClippedValueMetrics,
    GrpoMetrics,
    approximate_kl,
    clipped_surrogate_loss,
    clipped_value_loss,
    grpo_loss,
)
from haepo_jax.losses.episodes import SegmentEpisodes, episodes_in_segment
from haepo_jax.losses.filters import IMPORTANCE_MODES, finished_mask, importance_weights, varied_groups
from haepo_jax.losses.from_log_probs import haepo_from_log_probs
from haepo_jax.losses.gvpo import GvpoMetrics, gvpo_loss
from haepo_jax.losses.haepo import haepo_coefficients, haepo_loss
from haepo_jax.losses.haepo_segments import haepo_segment_loss
from haepo_jax.losses.kto import KtoMetrics, kto_loss
from haepo_jax.losses.likelihood import trajectory_log_likelihood
from haepo_jax.losses.listwise import ListwiseMetrics, listwise_preference_loss
from haepo_jax.losses.policy_ratio import policy_ratio_loss
from haepo_jax.losses.preferences import PAIRS, DpoMetrics, dpo_loss, ipo_loss, preference_pairs, simpo_loss
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
from haepo_jax.losses.vmpo import VmpoMetrics, vmpo_loss
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
    "IMPORTANCE_MODES",
    "LEVELS",
    "NORMALIZATIONS",
    "PAIRS",
    "PROJECTIONS",
    "SCORES",
    "SHAPES",
    "TARGETS",
    "ClippedSurrogateMetrics",
    "ClippedValueMetrics",
    "DpoMetrics",
    "GrpoMetrics",
    "GvpoMetrics",
    "HaepoMetrics",
    "KtoMetrics",
    "ListwiseMetrics",
    "PolicyRatioMetrics",
    "ReinforceMetrics",
    "RlooMetrics",
    "SegmentEpisodes",
    "VmpoMetrics",
    "approximate_kl",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "dpo_loss",
    "effective_sample_size",
    "episodes_in_segment",
    "finished_mask",
    "first_episode_mask",
    "generalized_advantages",
    "group_relative_advantages",
    "group_segments",
    "grpo_loss",
    "gvpo_loss",
    "haepo_coefficients",
    "haepo_from_log_probs",
    "haepo_loss",
    "haepo_segment_loss",
    "importance_weights",
    "ipo_loss",
    "kto_loss",
    "label_states",
    "leave_one_out_advantages",
    "listwise_preference_loss",
    "maxrl_advantages",
    "mean_over_groups",
    "normalize_returns",
    "plackett_luce_log_weights",
    "policy_ratio_loss",
    "preference_pairs",
    "presets",
    "reinforce_loss",
    "reinforce_plus_plus_advantages",
    "returns_sum_not_positive",
    "rloo_loss",
    "segment_lengths",
    "segment_log_likelihoods",
    "segment_returns",
    "simpo_loss",
    "take_starts",
    "target_log_weights",
    "target_temperature",
    "trajectory_log_likelihood",
    "trajectory_returns",
    "trajectory_scores",
    "varied_groups",
    "vmpo_loss",
    "weights_entropy",
    "weights_kl",
]

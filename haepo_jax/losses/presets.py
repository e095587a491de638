"""The settings of `policy_ratio_loss` under the names by which people know them.

Each is `policy_ratio_loss` with some arguments set, which a caller may set otherwise; `gspo.keywords` has them.
"""

import math
from functools import partial

from haepo_jax.losses.policy_ratio import policy_ratio_loss

__all__ = ["cispo", "dapo", "dr_grpo", "gmpo", "grpo", "gspo", "sapo", "vespo"]

grpo = partial(policy_ratio_loss, clip_low=0.2, clip_high=0.2, aggregation="sequence_mean")
"""GRPO (arXiv 2402.03300): each step's ratio within 0.2 of 1, each trajectory counted once. The paper adds
`kl_coef=0.04`. Advantages: `group_relative_advantages`."""

dr_grpo = partial(policy_ratio_loss, clip_low=0.2, clip_high=0.2, aggregation="constant")
"""Dr. GRPO (arXiv 2503.20783): as GRPO, but divided by the longest length there may be, `max_steps`. Advantages:
`group_relative_advantages(scale=False)`."""

dapo = partial(policy_ratio_loss, clip_low=0.2, clip_high=0.28, aggregation="token_mean")
"""DAPO (arXiv 2503.14476): ratios from 0.8 to 1.28, each step of a group counted once. Advantages:
`group_relative_advantages`, in the groups that `varied_groups` marks; `finished_mask` leaves out what was cut."""

gspo = partial(policy_ratio_loss, level="sequence", clip_low=3e-4, clip_high=4e-4, aggregation="sequence_mean")
"""GSPO (arXiv 2507.18071): one ratio a trajectory, its mean step's, from 1 - 0.0003 to 1 + 0.0004. Advantages:
`group_relative_advantages`."""

cispo = partial(policy_ratio_loss, shape="cispo", clip_low=1.0, clip_high=4.0, aggregation="token_mean")
"""CISPO (MiniMax-M1, arXiv 2506.13585): ratios as weights, of at most 5, and no step left out. The paper has no lower
bound and does not say its upper one; 5 is that of ScaleRL (arXiv 2510.13786). Advantages:
`group_relative_advantages`."""

gmpo = partial(
    policy_ratio_loss,
    level="geometric_mean",
    clip_low=-math.expm1(-0.4),
    clip_high=math.expm1(0.4),
    aggregation="sequence_mean",
)
"""GMPO (arXiv 2507.20673): the geometric mean of a trajectory's ratios, each from exp(-0.4) to exp(0.4). Advantages:
`group_relative_advantages`."""

sapo = partial(policy_ratio_loss, shape="sapo", temperatures=(1.0, 1.05), aggregation="sequence_mean")
"""SAPO (arXiv 2511.20347): a sigmoid in place of the clip, of temperature 1, and 1.05 where a step loses. Advantages:
`group_relative_advantages`."""

vespo = partial(
    policy_ratio_loss, level="sequence", shape="vespo", kernels=((2.0, 3.0), (3.0, 2.0)), aggregation="token_mean"
)
"""VESPO (arXiv 2602.10693): steps weighed by a kernel of the whole trajectory's ratio, of power 2 and rate 3, and of 3
and 2 where the advantage is negative. The behaviour's log-probabilities should be the sampler's own. Advantages:
`group_relative_advantages`."""

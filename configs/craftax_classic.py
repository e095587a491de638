"""Craftax-Classic, Crafter in JAX, with HAEPO: a reward of 1 for each of 22 achievements, and of 0.1 for each heart.

python -m experiments.train --config=configs/craftax_classic.py --workdir=runs/craftax_classic

Needs pip install -e '.[craftax]'. Takes 2 h 50 min on one core of a busy CPU, a million environment steps for
each of 4 seeds: 400 steps a second in all, up to 1,200 at times. Expect a mean return of 5.23 over the last 10
updates, and 4.98 to 5.43 from single seeds. That is 24% of 22, one for each achievement; DreamerV3 has 53% after as
many steps, of episodes up to ten times as long (arXiv 2502.01591). Nine of ten episodes collect wood and a sapling,
place a plant and a table, and wake up; one of twenty collects stone, and none iron. The columns achievement_NAME are
the percentages of the episodes that had it; those of episodes that are cut at the horizon count as 0.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """4 seeds of a million environment steps each, in updates of 64 environments x 128 steps."""
    config = default_config()
    config.env = "craftax:Craftax-Classic-Symbolic-v1"
    config.horizon = 1000  # of the 10,000 that the environment allows
    config.num_seeds = 4
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.haepo.num_steps = 128
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.discount = 0.99
    config.policy.activation = "relu"
    config.haepo.segment_length = 1
    config.haepo.bootstrap = "value"
    config.haepo.target_effective_sample_size = 0.7
    return config

"""MPE's simple spread of JaxMARL with HAEPO: three agents cover three landmarks without touching one another.

python -m experiments.train --config=configs/simple_spread.py --workdir=runs/simple_spread

Needs pip install -e '.[jaxmarl]'. Takes six minutes on 2 CPU cores, a million environment steps for each of 8 seeds.
Expect a mean return of -13.4 over the last 10 updates, and -13.7 to -13.1 from single seeds; returns are means over
agents, of 26 steps.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """8 seeds of a million environment steps each, in updates of 64 environments x 26 steps, an episode each."""
    config = default_config()
    config.env = "jaxmarl:MPE_simple_spread_v3"
    config.num_seeds = 8
    config.max_env_steps = 1_000_000
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.haepo.num_steps = 26
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.discount = 0.99
    config.haepo.segment_length = 1
    config.haepo.bootstrap = "value"
    config.haepo.target_effective_sample_size = 0.8
    return config

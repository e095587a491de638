"""MPE's simple spread of JaxMARL with HAEPO: three agents cover three landmarks without touching one another.

python -m experiments.train --config=configs/simple_spread.py --workdir=runs/simple_spread

Needs pip install -e '.[jaxmarl]'. Takes the time of 8 million environment steps, a million for each of 8 seeds.
Expect no number here, as none has been measured yet; returns are means over agents, of 26 steps.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """8 seeds of a million environment steps each, in updates of at least 3,328: 128 episodes of 26 steps."""
    config = default_config()
    config.env = "jaxmarl:MPE_simple_spread_v3"
    config.num_seeds = 8
    config.num_trajectories = 128
    config.min_batch_steps = 3328
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // config.min_batch_steps)
    config.haepo.joint = "joint"
    return config

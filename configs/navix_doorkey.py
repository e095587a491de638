"""NAVIX's DoorKey on a grid of 8 x 8 with HAEPO: take the key, open the door, reach the goal; one reward of 1 there.

python -m experiments.train --config=configs/navix_doorkey.py --workdir=runs/navix_doorkey

Needs pip install -e '.[navix]'. Takes four minutes on one CPU core, a million environment steps for each of 8 seeds.
Expect a mean return of 0.075 over the last 10 updates, and 0.03 to 0.10 from single seeds: the goal is found now and
then, and the task is not solved in so many steps.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """8 seeds of a million environment steps each, in updates of 64 environments x 128 steps."""
    config = default_config()
    config.env = "navix:Navix-DoorKey-8x8-v0"
    config.num_seeds = 8
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

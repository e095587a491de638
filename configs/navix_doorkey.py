"""NAVIX's DoorKey on a grid of 8 x 8 with HAEPO: take the key, open the door, reach the goal; one reward of 1 there.

python -m experiments.train --config=configs/navix_doorkey.py --workdir=runs/navix_doorkey

Needs pip install -e '.[navix]'. Takes the time of 8 million environment steps, a million for each of 8 seeds.
Expect no number here, as none has been measured yet.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """8 seeds of a million environment steps each, in updates of at least 4,096."""
    config = default_config()
    config.env = "navix:Navix-DoorKey-8x8-v0"
    config.num_seeds = 8
    config.num_trajectories = 16
    config.min_batch_steps = 4096
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // config.min_batch_steps)
    config.discount = 0.99  # with 1, arriving late would be as good as arriving soon
    return config

"""CartPole-v1 with REINFORCE, the group's z-scored returns as advantages: one gradient step a batch.

python -m experiments.train --config=configs/cartpole_reinforce.py --workdir=runs/cartpole_reinforce

Takes 16 s on 2 CPU cores, 4 s of it to compile. Expect a mean return of 500 over the last 10 updates, and at
least 497 from every seed.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """32 seeds, 60 updates of 16 episodes."""
    config = default_config()
    config.env = "CartPole-v1"
    config.algorithm = "reinforce"
    config.num_seeds = 32
    config.num_updates = 60
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "constant"
    config.reinforce.normalization = "zscore"
    return config

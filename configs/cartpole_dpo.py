"""CartPole-v1 with DPO (Direct Preference Optimisation): episodes in pairs, the longer one preferred.

python -m experiments.train --config=configs/cartpole_dpo.py --workdir=runs/cartpole_dpo

Takes 32 s on 2 CPU cores, 5 s of it to compile. Expect a mean return of 484 over the last 10 updates: it is
fast, and seeds fall back, the worst of 32 to 218.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """32 seeds, 60 updates of 16 episodes."""
    config = default_config()
    config.env = "CartPole-v1"
    config.algorithm = "dpo"
    config.num_seeds = 32
    config.num_updates = 60
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "constant"
    config.dpo.beta = 0.03
    config.dpo.pairs = "all"
    config.dpo.num_epochs = 4
    config.dpo.reference = "previous"
    return config

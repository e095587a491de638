"""Acrobot-v1 with HAEPO: a reward of -1 a step until the tip is up, at most 500 steps.

python -m experiments.train --config=configs/acrobot.py --workdir=runs/acrobot

Takes 21 s on 2 CPU cores. Expect a mean return of -87 over the last 10 updates, and -97 from the worst seed.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 60 updates of 16 episodes."""
    config = default_config()
    config.env = "Acrobot-v1"
    config.num_seeds = 16
    config.num_updates = 60
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "constant"
    config.haepo.score = "log_ratio"
    config.haepo.normalization = "zscore"
    config.haepo.temperature = 1.0
    config.haepo.projection = "reverse"
    config.haepo.adapt = "fixed"
    config.haepo.history = 0
    config.haepo.num_epochs = 4
    config.haepo.entropy_coef = 0.3
    config.haepo.kl_coef = 5e-3
    config.haepo.reference = "previous"
    return config

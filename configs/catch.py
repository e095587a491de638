"""Catch-bsuite with HAEPO: a 10 x 5 board, one reward of 1 or -1 after 9 steps.

python -m experiments.train --config=configs/catch.py --workdir=runs/catch

Takes 13 s on 2 CPU cores. Expect a mean return of 0.99 over the last 10 updates, and at least 0.9 from every seed.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 300 updates of 16 episodes."""
    config = default_config()
    config.env = "Catch-bsuite"
    config.horizon = 9  # the ball lands then; the environment's own limit is 1000
    config.num_seeds = 16
    config.num_updates = 300
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 1e-3
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

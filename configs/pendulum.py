"""Pendulum-v1 with HAEPO: continuous torque, 200 steps, a cost for every step that the pendulum is not up.

python -m experiments.train --config=configs/pendulum.py --workdir=runs/pendulum

Takes 164 s on 2 CPU cores. Expect a mean return of -172 over the last 10 updates, and -233 from the worst seed
(random play: -1228).
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 300 updates of 128 episodes: how an episode starts decides much of its return, so M is large."""
    config = default_config()
    config.env = "Pendulum-v1"
    config.num_seeds = 16
    config.num_updates = 300
    config.num_trajectories = 128
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "linear"
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

"""CartPole-v1 with HAEPO, the best settings found (docs/experiments/cartpole_settings.md).

python -m experiments.train --config=configs/cartpole.py --workdir=runs/cartpole

Takes 24 s on 2 CPU cores, 6 s of it to compile. Expect a mean return of 500 over the last 10 updates, and at
least 475 from every seed.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """32 seeds, 40 updates of 16 episodes."""
    config = default_config()
    config.env = "CartPole-v1"
    config.num_seeds = 32
    config.num_updates = 40
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "constant"
    config.haepo.score = "log_ratio"
    config.haepo.normalization = "zscore"
    config.haepo.projection = "reverse"
    config.haepo.adapt = "fixed"
    config.haepo.history = 0
    config.haepo.num_epochs = 4
    config.haepo.temperature = 4.0
    config.haepo.entropy_coef = 0.3
    config.haepo.kl_coef = 5e-3
    config.haepo.reference = "previous"
    return config

"""CartPole-v1 with PPO: 500 thousand environment steps, as PPO codes are compared on it.

python -m experiments.train --config=configs/cartpole_ppo.py --workdir=runs/cartpole_ppo

Takes 53 s on 2 CPU cores, 6 s of it to compile. Expect a mean return of 500 over the last 10
updates, and 500 from every seed.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """32 seeds, 977 updates of 4 environments x 128 steps."""
    config = default_config()
    config.env = "CartPole-v1"
    config.algorithm = "ppo"
    config.num_seeds = 32
    config.num_updates = 977
    config.num_trajectories = 4
    config.min_batch_steps = None
    config.discount = 0.99
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "linear"
    config.ppo.num_steps = 128
    config.ppo.num_epochs = 4
    config.ppo.num_minibatches = 4
    config.ppo.clip_epsilon = 0.2
    # On tuning seeds (1000 to 1031) every seed ends at 500 with it; without it the worst ends at 464.
    config.ppo.value_clip_epsilon = 0.2
    config.ppo.gae_lambda = 0.95
    config.ppo.value_coef = 0.5
    config.ppo.entropy_coef = 0.01
    return config

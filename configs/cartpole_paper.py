"""CartPole-v1 with HAEPO in the paper's form, as far as it is known: score sum, returns divided by their sum, one step
a batch, beta and lambda from the paper's range.

python -m experiments.train --config=configs/cartpole_paper.py --workdir=runs/cartpole_paper

Takes half a minute on 2 CPU cores. Expect a mean return of 381 over the last 10 updates, with seeds from 125 to 500.

Beta, lambda, the temperature and the learning rate are the best of 24 settings on 8 tuning seeds, by the mean over the
whole of learning; experiments.paper tries a learning rate of 3e-2 besides, and takes it. All is ours but the score,
the normalisation, the range of beta and lambda, and the one step.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """32 seeds, 150 thousand environment steps each in updates of 16 episodes."""
    config = default_config()
    config.env = "CartPole-v1"
    config.num_seeds = 32
    config.num_updates = 240
    config.max_env_steps = 150_000
    config.num_trajectories = 16
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = "constant"
    config.haepo.score = "sum"
    config.haepo.temperature = 4.0
    config.haepo.projection = "reverse"
    config.haepo.adapt = "fixed"
    config.haepo.history = 0
    config.haepo.normalization = "sum"
    config.haepo.num_epochs = 1
    config.haepo.entropy_coef = 5e-3  # the paper: between 5e-5 and 1e-2
    config.haepo.kl_coef = 0.0  # the paper: 0 or beta
    config.haepo.reference = "none"
    return config

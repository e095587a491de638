"""LongChain-haepo, 300 cells long, with HAEPO: up to 10,000 steps an episode, one reward of 1 at the end of the chain.

python -m experiments.train --config=configs/long_horizon.py --workdir=runs/long_horizon

Takes 1 minute on 2 CPU cores. Expect a success (the return) of 1.0 over the last 10 updates from each of the
16 seeds, in episodes of 336 steps. A uniform policy gets there in 0.53% of its episodes; the seeds are at 0.9 after 3
to 18 updates. The same command with other scores; seeds: how many of 16 have a mean success of 0.9 over the last 10:

    score, temperature   mean    worst   seeds   added to the command
    log_ratio, 8         1.000   1.000   16
    mean, 8              1.000   1.000   16      --config.haepo.score=mean
    sum, 8               0.303   0.003    2      --config.haepo.score=sum LIMIT
    sum, 1, one epoch    0.209   0.002    0      --config.haepo.{score=sum,temperature=1,num_epochs=1} LIMIT
    sum, 1,000           1.000   1.000   16      --config.haepo.{score=sum,temperature=1e3}
    sum, 10,000          1.000   1.000   16      --config.haepo.{score=sum,temperature=1e4}

LIMIT: --config.max_env_steps=12000000, about what the slowest seed of log_ratio takes in all. The fourth row is the
paper's form. A temperature of a thousand keeps the weights of `sum` from saturating, and it learns too.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 40 updates of 64 episodes, of which at first one in 190 sees the reward."""
    config = default_config()
    config.env = "LongChain-haepo"
    config.env_params = {"length": 300}
    config.num_seeds = 16
    config.num_updates = 40
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.exploration.persistences = ()
    config.horizon = 10_000
    config.discount = 0.9999  # with 1, arriving late would be as good as arriving soon
    config.policy.hidden_sizes = (32,)  # for speed
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"
    config.haepo.score = "log_ratio"
    config.haepo.normalization = "zscore"
    config.haepo.projection = "reverse"
    config.haepo.adapt = "fixed"
    config.haepo.history = 0
    config.haepo.num_epochs = 4
    config.haepo.temperature = 8.0
    config.haepo.entropy_coef = 5e-3
    config.haepo.kl_coef = 5e-3
    config.haepo.reference = "previous"
    return config

"""Connect four by self-play with HAEPO: a learner against itself and random play.

python -m experiments.train --config=configs/connect_four.py --workdir=runs/connect_four
python -m experiments.cross_play --workdir=runs/connect_four --greedy --games=1000

Takes a minute and a half on 2 CPU cores, a million environment steps for each of 16 seeds, and another for 1000 games
of each pair. Expect that the likeliest moves of every seed win 97.9 to 99.5% of their games against random play. The
settings are those of configs/tic_tac_toe.py.

Ours has the rules and observations of pgx's: --config.env=pgx:connect_four plays that one.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds of a million environment steps each, in updates of 64 x 64; single steps compete."""
    config = default_config()
    config.env = "ConnectFour-haepo"
    config.num_seeds = 16
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.max_env_steps = 1_000_000
    config.policy.hidden_sizes = (128, 128)
    config.policy.activation = "relu"
    config.optimizer.learning_rate = 2e-3
    config.haepo.segment_length = 1
    config.haepo.num_steps = 64
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.haepo.bootstrap = "value"
    config.haepo.policy_entropy_coef = 0.1
    config.self_play.opponents = "newest"
    config.self_play.random_share = 0.2
    return config

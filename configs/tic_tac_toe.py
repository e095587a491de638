"""Tic-tac-toe by self-play with HAEPO: a learner against random play, earlier selves and itself.

python -m experiments.train --config=configs/tic_tac_toe.py --workdir=runs/tic_tac_toe
python -m experiments.cross_play --workdir=runs/tic_tac_toe --greedy

Its own game, in the rules and observations of pgx's: --config.env=pgx:tic_tac_toe plays that one.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds."""
    config = default_config()
    config.env = "TicTacToe-haepo"
    config.num_seeds = 16
    config.num_trajectories = 64
    config.min_batch_steps = 2048
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // config.min_batch_steps)
    config.self_play.opponents = "pool"
    return config

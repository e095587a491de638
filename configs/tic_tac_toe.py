"""Tic-tac-toe by self-play with HAEPO: a learner against itself and random play.

python -m experiments.train --config=configs/tic_tac_toe.py --workdir=runs/tic_tac_toe
python -m experiments.cross_play --workdir=runs/tic_tac_toe --greedy --games=1000

Takes a minute on 2 CPU cores, 600 thousand environment steps for each of 16 seeds, and another for 1000 games of
each pair. Expect that the likeliest moves of every seed lose at most 0.3% of their games against random play and
draw at least 99.5% against the perfect player; 13 of the 16 lose none of either. With moves that are drawn, 2
tuning seeds lost 0.2% against random play and 2% against the perfect player. The bonus of entropy decides: PPO of
the same network lost 2 and 7% against the perfect player with 0.03, and none with 0.1. Whole games that compete
(haepo.segment_length unset) lost 8 to 10% against random play.

Ours has the rules and observations of pgx's: --config.env=pgx:tic_tac_toe plays that one.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds of 600 thousand environment steps each, in updates of 64 x 32; single steps compete."""
    config = default_config()
    config.env = "TicTacToe-haepo"
    config.num_seeds = 16
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.max_env_steps = 600_000
    config.policy.hidden_sizes = (128, 128)
    config.policy.activation = "relu"
    config.optimizer.learning_rate = 2e-3
    config.haepo.segment_length = 1
    config.haepo.num_steps = 32
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.haepo.bootstrap = "value"
    config.haepo.policy_entropy_coef = 0.1  # with less, play collapses to few games and the rest is never learnt
    config.self_play.opponents = "newest"
    config.self_play.random_share = 0.2
    return config

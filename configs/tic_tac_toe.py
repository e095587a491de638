"""Tic-tac-toe by self-play with HAEPO: a learner against earlier selves, itself and random play.

python -m experiments.train --config=configs/tic_tac_toe.py --workdir=runs/tic_tac_toe
python -m experiments.cross_play --workdir=runs/tic_tac_toe --greedy

Takes the time of 5 million games, 300 thousand for each of 16 seeds.
Expect no perfect play. Of 4 seeds from 1000 on, trained for 300 of the 600 updates, the likeliest moves lost 8 to 10%
of all games against random play, over both seats, and 50 to 99% of those against the perfect player. Entropy fell to
0.12 nats, and against itself whoever moved first won. Settings that lose less than 1% were not found yet.

Ours has the rules and observations of pgx's: --config.env=pgx:tic_tac_toe plays that one.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds of 600 updates of 512 games each."""
    config = default_config()
    config.env = "TicTacToe-haepo"
    config.num_seeds = 16
    config.num_trajectories = 512
    config.min_batch_steps = None  # all games of an update at once
    config.num_updates = 600
    config.exploration.persistences = ()  # a move that is right now need not be so next time
    config.self_play.opponents = "pool"
    return config

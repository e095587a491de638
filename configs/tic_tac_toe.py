"""Tic-tac-toe by self-play with HAEPO: a learner against earlier selves, itself and random play.

python -m experiments.train --config=configs/tic_tac_toe.py --workdir=runs/tic_tac_toe
python -m experiments.cross_play --workdir=runs/tic_tac_toe --greedy

Takes the time of 9.6 million environment steps, 600 thousand for each of 16 seeds.
Expect no number here yet: this form has not been measured. Its bonus of entropy is what PPO of the same network
needed. After 594 thousand steps against its newest self, the likeliest moves of 2 seeds from 1000 on lost with 0.03
0.1 and 0.2% of all games against random play and 2 and 7% against the perfect player; with 0.1 and with 0.2 neither
ever lost, and nobody can beat them. HAEPO with segments and a bonus of 0.01 lost 2.3 to 2.7% against random play, and
whole games that compete (haepo.segment_length unset) 8 to 10%.

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
    config.exploration.persistences = ()  # a move that is right now need not be so next time
    config.policy.hidden_sizes = (128, 128)
    config.policy.activation = "relu"
    config.optimizer.learning_rate = 2e-3
    config.haepo.segment_length = 1
    config.haepo.num_steps = 32
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.haepo.bootstrap = "value"
    config.haepo.policy_entropy_coef = 0.1  # with less, play collapses to few games and the rest is never learnt
    config.self_play.opponents = "pool"
    config.self_play.random_share = 0.2
    return config

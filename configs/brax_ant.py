"""Brax's ant with HAEPO: eight joints, a reward for each step forward, 1,000 steps an episode or until it falls.

python -m experiments.train --config=configs/brax_ant.py --workdir=runs/brax_ant

Needs pip install -e '.[brax]'. Takes 13 minutes on one CPU core, a million environment steps for each of 4 seeds.
Expect a mean return of -18 over the last 10 updates, and -39 to -9 from single seeds: in so few steps the ant learns
not to waste its strength, and does not walk. The columns reward_forward, reward_survive, reward_ctrl and
reward_contact are the parts of the return.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """4 seeds of a million environment steps each, in updates of 64 environments x 128 steps."""
    config = default_config()
    config.env = "brax:ant"
    config.env_kwargs = {"backend": "positional"}
    config.num_seeds = 4
    config.num_trajectories = 64
    config.min_batch_steps = None
    config.haepo.num_steps = 128
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.discount = 0.99
    config.policy.activation = "relu"
    config.haepo.segment_length = 1
    config.haepo.bootstrap = "value"
    config.haepo.target_effective_sample_size = 0.7
    config.normalize_observations = True
    return config

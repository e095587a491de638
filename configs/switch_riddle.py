"""JaxMARL's switch riddle with HAEPO: prisoners that see one bulb, one at a time, say when all have seen it.

python -m experiments.train --config=configs/switch_riddle.py --workdir=runs/switch_riddle

Needs pip install -e '.[jaxmarl]'. Takes 20 minutes on one CPU core, a million environment steps for each of 16 seeds.
Expect a return of 0.528 over the last tenth, and 0.509 to 0.537 from single seeds: it is not solved. No policy has
more than 540 / 729 = 0.741 on average, the chance that all three have been in the room within the 6 steps of an
episode.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds of a million environment steps each, in updates of at least 2,048; three agents that remember."""
    config = default_config()
    config.env = "jaxmarl:switch_riddle"
    config.num_seeds = 16
    config.num_trajectories = 64
    config.min_batch_steps = 2048
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // config.min_batch_steps)
    config.policy.network = "gru"  # who has been there is seen in the bulb alone, and only by the one in the room
    config.policy.hidden_sizes = (64, 64)
    config.haepo.joint = "joint"
    config.haepo.history = 0  # an update's own 341 episodes are enough, and it takes an eighth of the time
    config.haepo.target_effective_sample_size = 0.8
    config.exploration.persistences = ()
    return config

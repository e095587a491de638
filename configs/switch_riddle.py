"""JaxMARL's switch riddle with HAEPO: prisoners that see one bulb, one at a time, say when all have seen it.

python -m experiments.train --config=configs/switch_riddle.py --workdir=runs/switch_riddle

Needs pip install -e '.[jaxmarl]'. Takes half an hour on one CPU core, a million environment steps for each of 16
seeds. Expect a mean return of 0.716 over the last tenth, and 0.667 to 0.742 from single seeds. No policy has more than
540 / 729 = 0.741 on average, the chance that all three have been in the room within the 6 steps of an episode, and
none that never reads the bulb more than 0.527.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 1,303 updates of 128 environments x 6 steps, an episode or more each; three agents that remember."""
    config = default_config()
    config.env = "jaxmarl:switch_riddle"
    config.num_seeds = 16
    config.num_trajectories = 128
    config.min_batch_steps = None
    config.haepo.num_steps = 6
    config.max_env_steps = 1_000_000
    config.num_updates = -(-config.max_env_steps // (config.num_trajectories * config.haepo.num_steps))
    config.policy.network = "gru"  # who has been there is seen in the bulb alone, and only by the one in the room
    config.optimizer.learning_rate = 1e-2
    config.haepo.segment_length = 1
    config.haepo.bootstrap = "value"
    config.haepo.critic_sees = "all"  # whether all have been there is noise to a critic that sees what an agent sees
    config.haepo.target_effective_sample_size = 0.8
    config.haepo.policy_entropy_coef = 0.01
    return config

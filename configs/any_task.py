"""Any task with HAEPO at its one setting: an environment's id is all that is given.

python -m experiments.train --config=configs/any_task.py --workdir=runs/any --config.env=Acrobot-v1

Takes the time of 3.2 million environment steps, 200 thousand for each of 16 seeds: one to three minutes on 2 CPU
cores. Expect on a task of the suite what docs/suite.md says of HAEPO adaptive with one setting, such as -125 on
MountainCar-v0.

An episode ends as its environment says, or at its limit; every one of gymnax and ours has a limit, which for
Catch-bsuite is 1000 steps and never met, as the ball lands after 9. One of your own without a limit needs
--config.horizon.
"""

import ml_collections

from haepo_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """16 seeds of 200 thousand environment steps each, in at most 400 updates of at least 512."""
    config = default_config()
    config.num_seeds = 16
    config.max_env_steps = 200_000
    config.num_updates = -(-config.max_env_steps // config.min_batch_steps)
    return config

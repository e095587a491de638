"""Any task with HAEPO at its one setting: an environment's id is all that is given.

python -m experiments.train --config=configs/any_task.py --workdir=runs/any --config.env=Acrobot-v1

Takes 45 seconds on 2 CPU cores for MountainCar-v0, 200 thousand environment steps for each of 16 seeds; a task of
short episodes takes longer. Expect -128 there, with seeds from -138 to -118, and on each task of the suite
what docs/suite.md says of HAEPO adaptive with one setting.

Without --config.env it is CartPole-v1. An episode ends as its environment says, or at its limit; every one of gymnax
and ours has a limit, which for Catch-bsuite is 1000 steps and never met, as the ball lands after 9. One of your own
without a limit needs --config.horizon.
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

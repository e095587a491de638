"""SpaceInvaders-MinAtar with HAEPO: a point for each invader that is hit; all else is as on Breakout.

python -m experiments.train --config=configs/minatar_space_invaders.py --workdir=runs/minatar_space_invaders

Takes three minutes on 2 CPU cores, a million environment steps for each of 8 seeds. Expect a mean return of 123
over the last 10 updates, and 110 to 130 from single seeds.
"""

import ml_collections

from configs import minatar_breakout


def get_config() -> ml_collections.ConfigDict:
    """8 seeds, 123 updates of 64 environments x 128 steps."""
    config = minatar_breakout.get_config()
    config.env = "SpaceInvaders-MinAtar"
    return config

"""Freeway-MinAtar with HAEPO: a point for each crossing of the road; all else is as on Breakout.

python -m experiments.train --config=configs/minatar_freeway.py --workdir=runs/minatar_freeway

Takes three minutes on 2 CPU cores, a million environment steps for each of 8 seeds. Expect a mean return of 36.1
over the last 10 updates, and 32.4 to 39.9 from single seeds.
"""

import ml_collections

from configs import minatar_breakout


def get_config() -> ml_collections.ConfigDict:
    """8 seeds, 123 updates of 64 environments x 128 steps."""
    config = minatar_breakout.get_config()
    config.env = "Freeway-MinAtar"
    return config

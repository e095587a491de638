"""Asterix-MinAtar with HAEPO: collect what gives a point, evade what ends the game; all else is as on Breakout.

python -m experiments.train --config=configs/minatar_asterix.py --workdir=runs/minatar_asterix

Takes three minutes on 2 CPU cores, a million environment steps for each of 8 seeds. Expect a mean return of 2.67
over the last 10 updates, and 2.26 to 3.03 from single seeds.
"""

import ml_collections

from configs import minatar_breakout


def get_config() -> ml_collections.ConfigDict:
    """8 seeds, 123 updates of 64 environments x 128 steps."""
    config = minatar_breakout.get_config()
    config.env = "Asterix-MinAtar"
    return config

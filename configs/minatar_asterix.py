"""Asterix-MinAtar with HAEPO: collect what gives a point, evade what ends the game; all else is as on Breakout.

python -m experiments.train --config=configs/minatar_asterix.py --workdir=runs/minatar_asterix

Takes the time of 8 million environment steps, a million for each of 8 seeds. Expect no number here, as none has been
measured yet: docs/segments.md compares such settings with PPO on the four games.
"""

import ml_collections

from configs import minatar_breakout


def get_config() -> ml_collections.ConfigDict:
    """8 seeds, 123 updates of 64 environments x 128 steps."""
    config = minatar_breakout.get_config()
    config.env = "Asterix-MinAtar"
    return config

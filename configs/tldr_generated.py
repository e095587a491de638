"""TL;DR on the generated task: a 64-wide decoder of 2 layers, trained from nothing.

python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=sft
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=reward
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=rl
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """The defaults are made for this task."""
    return default_config()

"""TL;DR on the generated task: a 64-wide decoder of 2 layers, trained from nothing.

python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=sft
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=reward
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=rl

Takes 2 minutes and 42 seconds for `sft` on 2 CPU cores, 4 s of it to compile. Expect a held-out loss of 0.97 nats a
token from it; the stages behind it have not been tuned yet, and `rl` may refuse the reward model.
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """The defaults are made for this task."""
    return default_config()

"""TL;DR on the generated task: a 64-wide decoder of 2 layers, trained from nothing.

python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=sft
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=reward
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=rl
python -m experiments.tldr --config=configs/tldr_generated.py --workdir=runs/tldr --stage=evaluate

Takes 1 minute for `sft`, 2 for `reward` and 1 for `rl` on 2 CPU cores. Expect a held-out loss of 0.95 nats a token, a
held-out accuracy of 0.81, and a gold reward of 2.8 to 2.9 on the test posts, from 1.2 after `sft`. The settings are
those that `experiments.tldr_report` chose for HAEPO and GRPO; RLOO wants --config.rl.optimizer.learning_rate=3e-4.
"""

import ml_collections

from haepo_jax.language.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """The defaults are made for this task; what is set here was tuned."""
    config = default_config()
    config.rl.optimizer.learning_rate = 6e-4
    config.haepo.kl_coef = 0.1
    config.grpo.kl_coef = 0.15
    return config

"""CartPole-v1: the weights of the entropy term and of the KL term, six of each, with 32 seeds.

python -m experiments.sweep --config=configs/sweeps/beta_lambda.py --workdir=runs/beta_lambda

Takes 10 min on 2 CPU cores, 6 s of it to compile. Expect a mean return over the last 10 updates between 474 and 500
for each of the 36 settings, the least at the largest of either weight, and no member that diverges.
"""

import ml_collections

from configs import cartpole
from haepo_jax.config.sweep import with_search


def get_config() -> ml_collections.ConfigDict:
    """The settings of `cartpole.py` but for the two."""
    config = with_search(cartpole.get_config())
    config.sweep = {
        "haepo": {"entropy_coef": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0), "kl_coef": (0.0, 0.001, 0.005, 0.02, 0.1, 0.5)}
    }
    return config

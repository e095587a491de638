"""CartPole-v1: the weights of the entropy term and of the KL term, six of each, with 32 seeds.

python -m experiments.sweep --config=configs/sweeps/beta_lambda.py --workdir=runs/beta_lambda
"""

import ml_collections

from configs import cartpole
from haepo_jax.sweeps import with_search


def get_config() -> ml_collections.ConfigDict:
    """The settings of `cartpole.py` but for the two."""
    config = with_search(cartpole.get_config())
    config.sweep = {
        "haepo": {"entropy_coef": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0), "kl_coef": (0.0, 0.001, 0.005, 0.02, 0.1, 0.5)}
    }
    return config

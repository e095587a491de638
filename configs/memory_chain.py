"""MemoryChain-bsuite with HAEPO and a GRU: a bit shown at the first of 21 steps is asked for at the last.

python -m experiments.train --config=configs/memory_chain.py --workdir=runs/memory_chain

Takes a minute on 2 CPU cores, for 0.56 million environment steps, 35 thousand for each of 16 seeds. Expect a mean
return of 0.992 over the last 10 updates, and 0.971 from the worst seed. 1 is the most there is; random play has 0,
and no policy without memory more.
"""

import ml_collections

from haepo_jax.config import default_config

_MEMORY_LENGTH = 20


def get_config() -> ml_collections.ConfigDict:
    """16 seeds, 60 updates of at least 512 steps; all but what remembers is the default."""
    config = default_config()
    config.env = "MemoryChain-bsuite"
    config.env_params = {"memory_length": _MEMORY_LENGTH}
    config.horizon = _MEMORY_LENGTH + 1
    config.num_seeds = 16
    config.num_updates = 60
    config.policy.network = "gru"
    return config

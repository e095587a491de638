"""One file an algorithm: how a batch of trajectories moves a policy. All are built from `haepo_jax.losses`.

To add one: write its file with a `make(config, environment) -> Algorithm`, and name it below and in
`haepo_jax.config.ALGORITHMS`.
"""

from haepo_jax.algorithms import dpo, grpo, haepo, ppo, reinforce, rloo
from haepo_jax.algorithms.base import Algorithm, LearnerState

MAKERS = {
    "haepo": haepo.make,
    "ppo": ppo.make,
    "grpo": grpo.make,
    "rloo": rloo.make,
    "dpo": dpo.make,
    "reinforce": reinforce.make,
}

__all__ = ["MAKERS", "Algorithm", "LearnerState"]

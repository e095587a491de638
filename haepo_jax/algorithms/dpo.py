"""Online DPO (Direct Preference Optimisation): the batch's trajectories in pairs, the larger return preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import jax
import jax.numpy as jnp

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import preference_pairs
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """DPO for this config and environment, with the metrics of the last epoch."""
    return make_episodic(
        config, environment, _loss, num_epochs=config.dpo.num_epochs, reference=lambda config: config.dpo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    pairs = preference_pairs(as_group(config, trajectories).returns, pairs=config.dpo.pairs)

    def paired(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[M] -> [M, M]` twice, chosen and rejected: entry [i, j] is the pair in which i is preferred to j."""
        return jnp.broadcast_to(values[:, None], pairs.shape), jnp.broadcast_to(values[None, :], pairs.shape)

    reference_log_likelihoods = log_likelihoods(policy, reference, trajectories)
    objective = objectives.dpo(config.dpo, paired, reference_log_likelihoods, where=pairs)
    return lambda params: objective(log_likelihoods(policy, params, trajectories))

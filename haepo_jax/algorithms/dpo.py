"""Online DPO (Direct Preference Optimisation): the batch's trajectories in pairs, the larger return preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import jax
import jax.numpy as jnp

from haepo_jax import objectives
from haepo_jax.algorithms.episodic import as_group, make_episodic, of_likelihoods
from haepo_jax.algorithms.interface import Algorithm
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import preference_pairs, trajectory_log_likelihood
from haepo_jax.objectives import Objective
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """DPO for this config and environment, with the metrics of the last epoch."""
    return make_episodic(
        config, environment, _objective, num_epochs=config.dpo.num_epochs, reference=lambda config: config.dpo
    )


def _objective(
    config: ExperimentConfig, trajectories: Trajectories, reference_log_probs: jax.Array | None
) -> Objective:
    pairs = preference_pairs(as_group(config, trajectories).returns, pairs=config.dpo.pairs)

    def paired(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[M] -> [M, M]` twice, chosen and rejected: entry [i, j] is the pair in which i is preferred to j."""
        return jnp.broadcast_to(values[:, None], pairs.shape), jnp.broadcast_to(values[None, :], pairs.shape)

    assert reference_log_probs is not None  # `dpo.reference` cannot be none
    reference_log_likelihoods = trajectory_log_likelihood(reference_log_probs, where=trajectories.mask)
    objective = objectives.dpo(config.dpo, paired, reference_log_likelihoods, where=pairs)
    return of_likelihoods(objective, trajectories)

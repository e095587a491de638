"""Online DPO (Direct Preference Optimisation): the batch's trajectories in pairs, the larger return preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import jax
import jax.numpy as jnp

from haepo_jax import objectives
from haepo_jax.algorithms.base import Algorithm
from haepo_jax.algorithms.episode_batches import on_log_likelihoods
from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import preference_pairs
from haepo_jax.objectives import Group, Objective


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """DPO for this config and environment, with the metrics of the last epoch."""
    return make_episodic(
        config,
        environment,
        on_log_likelihoods(_objective),
        num_epochs=config.dpo.num_epochs,
        reference=lambda config: config.dpo,
    )


def _objective(config: ExperimentConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    pairs = preference_pairs(group.returns, pairs=config.dpo.pairs)

    def paired(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[M] -> [M, M]` twice, chosen and rejected: entry [i, j] is the pair in which i is preferred to j."""
        return jnp.broadcast_to(values[:, None], pairs.shape), jnp.broadcast_to(values[None, :], pairs.shape)

    assert reference_log_likelihoods is not None  # `dpo.reference` cannot be none
    return objectives.dpo(config.dpo, paired, reference_log_likelihoods, where=pairs)

"""Online DPO (Direct Preference Optimisation): the batch's trajectories in pairs, the larger return preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import jax
import jax.numpy as jnp

from haepo_jax.algorithms.episodic import make_episodic
from haepo_jax.algorithms.interface import Algorithm, Loss, Metrics, scalars
from haepo_jax.algorithms.replay import log_likelihoods
from haepo_jax.config import ExperimentConfig
from haepo_jax.environments import Environment
from haepo_jax.losses import dpo_loss, preference_pairs, trajectory_returns
from haepo_jax.policies import Params, Policy
from haepo_jax.rollout import Trajectories


def make(config: ExperimentConfig, environment: Environment) -> Algorithm:
    """DPO for this config and environment. Metrics of the last epoch: `accuracy`, `margin`, `num_pairs`."""
    return make_episodic(
        config, environment, _loss, num_epochs=config.dpo.num_epochs, reference=lambda config: config.dpo
    )


def _loss(config: ExperimentConfig, policy: Policy, reference: Params | None, trajectories: Trajectories) -> Loss:
    dpo = config.dpo
    returns = trajectory_returns(trajectories.rewards, discount=config.discount, where=trajectories.mask)
    pairs = preference_pairs(returns, pairs=dpo.pairs)
    reference_log_likelihoods = log_likelihoods(policy, reference, trajectories)

    def paired(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[M] -> [M, M]` twice, chosen and rejected: entry [i, j] is the pair in which i is preferred to j."""
        return jnp.broadcast_to(values[:, None], pairs.shape), jnp.broadcast_to(values[None, :], pairs.shape)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        loss, terms = dpo_loss(
            *paired(log_likelihoods(policy, params, trajectories)),
            *paired(reference_log_likelihoods),
            beta=dpo.beta,
            label_smoothing=dpo.label_smoothing,
            where=pairs,
        )
        return loss, scalars({"accuracy": terms.accuracy, "margin": terms.margin, "num_pairs": terms.num_pairs})

    return loss_fn

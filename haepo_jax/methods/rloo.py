"""RLOO: each return against the mean of the others; one gradient step on a batch of episodes.

Returns keep their scale, which the gradient's clip and Adam's normalisation mostly take out again.
"""

import jax
import jax.numpy as jnp

from haepo_jax.losses import rloo_loss
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees
from haepo_jax.methods.settings import NoSettings
from haepo_jax.types import Metrics


def objective(settings: NoSettings, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes RLOO's loss of log-likelihoods `[..., M]`, without metrics of its own.

    Where more than one step is taken on the trajectories each counts by its importance ratio, and the loss is minus
    the mean of advantage times ratio. Its gradient is that of plain RLOO as long as the policy has not moved.
    """
    del settings, reference_log_likelihoods

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        if not group.is_reused:
            return rloo_loss(log_likelihoods, group.returns, where=group.valid)[0], {}
        ratios = jnp.exp(log_likelihoods - group.behaviour_log_likelihoods)
        return rloo_loss(ratios, group.returns, where=group.valid)[0], {}

    return loss_of


METHOD = Method(objective, Sees.SUMS, NoSettings(), language=OnLanguage(NoSettings()))

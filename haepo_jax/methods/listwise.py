"""The listwise preference loss, online: trajectories of a group are ranked by return and learnt as one ranking.

Of two trajectories it is DPO. Equal returns are ties, which are not compared with one another.
"""

import dataclasses

import jax
import jax.numpy as jnp

from haepo_jax.fields import number
from haepo_jax.losses import listwise_preference_loss
from haepo_jax.methods.preferences import PAIRS_MEMORY, check_has_reference
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import EpochsConfig, ReferenceConfig
from haepo_jax.types import Metrics


@with_schedules
@dataclasses.dataclass(frozen=True)
class ListwiseLossConfig:
    """The likelihood of a ranking under implicit rewards (Plackett-Luce)."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the larger, the nearer the policy stays to its reference."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class ListwiseConfig(EpochsConfig, ListwiseLossConfig, ReferenceConfig):
    """The listwise preference loss on an environment, where the batch is one ranking."""


def objective(settings: ListwiseLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes the loss of log-likelihoods `[..., M]`, with two metrics; groups of equal returns do not count.

    `accuracy` is the share of a group's pairs that the log-ratios order as the returns do, and `num_choices` how many
    trajectories are preferred to another, both means over the groups that count.
    """
    assert reference_log_likelihoods is not None  # `reference` cannot be none

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = listwise_preference_loss(
            log_likelihoods, reference_log_likelihoods, group.returns, beta=settings.beta, where=group.valid
        )
        # A group without a choice has zeros, so that sums are over those that count.
        num_groups = jnp.maximum(jnp.sum(terms.num_choices > 0), 1)
        metrics = {"accuracy": terms.accuracy, "num_choices": terms.num_choices}
        return loss, make_scalars({name: jnp.sum(of_groups) / num_groups for name, of_groups in metrics.items()})

    return loss_of


METHOD = Method(
    objective,
    Sees.SUMS,
    ListwiseConfig(),
    metrics=("accuracy", "num_choices"),
    check=check_has_reference,
    why_unit_free=lambda chosen: "listwise asks of returns in which order they are alone",
    extra_memory=PAIRS_MEMORY,
    language=OnLanguage(ListwiseLossConfig()),
)

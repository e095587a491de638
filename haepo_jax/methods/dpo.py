"""DPO (Direct Preference Optimisation): online on an environment, where the larger return of a pair is preferred.

The DPO that PureJaxRL, Rejax and Stoix offer is another algorithm, Discovered Policy Optimisation.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice, number
from haepo_jax.losses import PAIRS, dpo_loss, preference_pairs
from haepo_jax.methods.record import ExtraMemory, Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import with_schedules
from haepo_jax.methods.settings import REFERENCES, Chosen, EpochsConfig, JointConfig, ReferenceConfig
from haepo_jax.types import Metrics


@with_schedules
@dataclasses.dataclass(frozen=True)
class DpoLossConfig:
    """The loss of Direct Preference Optimisation."""

    beta: float = number(0.1, above=0.0)
    """Per nat; the larger, the nearer the policy stays to its reference."""
    label_smoothing: float = number(0.0, low=0.0, high=0.49)
    """Share of the preferences that are taken to be the wrong way round."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class DpoConfig(EpochsConfig, JointConfig, DpoLossConfig, ReferenceConfig):
    """DPO on an environment: pairs of a batch's trajectories, the one of larger return preferred."""

    pairs: str = choice("all", PAIRS)
    """Which pairs of a batch are compared: `all` of unequal returns, or the best with the worst."""


def objective(settings: DpoConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes DPO's loss of the pairs of each group, with `accuracy`, `margin` and `num_pairs`."""
    assert reference_log_likelihoods is not None  # `reference` cannot be none
    pairs = preference_pairs(group.returns, pairs=settings.pairs, where=group.valid)

    def paired(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[..., M] -> [..., M, M]` twice: entry [i, j] is the pair in which i is preferred to j."""
        return jnp.broadcast_to(values[..., :, None], pairs.shape), jnp.broadcast_to(values[..., None, :], pairs.shape)

    return _on_pairs(settings, paired, reference_log_likelihoods, where=pairs)


def on_comparisons(settings: DpoLossConfig, reference_log_likelihoods: jax.Array) -> Objective:
    """Makes DPO's loss of given pairs `[..., 2]`, the chosen first, with the same metrics."""
    return _on_pairs(settings, lambda values: (values[..., 0], values[..., 1]), reference_log_likelihoods)


def _on_pairs(
    settings: DpoLossConfig,
    pair: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    reference_log_likelihoods: jax.Array,
    where: jax.Array | None = None,
) -> Objective:
    """The loss of the pairs that count, `pair` being `log-likelihoods [..., M] -> (chosen, rejected)`."""
    reference_pair = pair(reference_log_likelihoods)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = dpo_loss(
            *pair(log_likelihoods),
            *reference_pair,
            beta=settings.beta,
            label_smoothing=settings.label_smoothing,
            where=where,
        )
        return loss, make_scalars({"accuracy": terms.accuracy, "margin": terms.margin, "num_pairs": terms.num_pairs})

    return loss_of


def _check(chosen: Chosen) -> None:
    if chosen.settings.reference == "none":
        raise ConfigError(
            f"{chosen.where('reference')} is none, but preferences are measured against a reference policy; "
            f"choose one of {', '.join(REFERENCES[1:])}."
        )


METHOD = Method(
    objective,
    Sees.SUMS,
    DpoConfig(),
    metrics=("accuracy", "margin", "num_pairs"),
    check=_check,
    why_unit_free=lambda chosen: "dpo asks of two returns which is the larger alone",
    extra_memory=ExtraMemory("the pairs of its episodes", lambda num_trajectories: num_trajectories**2),
    language=OnLanguage(DpoLossConfig(), comparisons=on_comparisons),
)

"""V-MPO on trajectories: the likelihood of the best of a group, weighed by a temperature that its dual moves.

Its bound on the policy's move is left out: trajectories as wholes have no divergence that can be differentiated. On
language models `rl.kl_penalty` takes the divergence from the reference off the returns.
"""

import dataclasses

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice, number
from haepo_jax.losses import NORMALIZATIONS, normalize_returns, vmpo_loss
from haepo_jax.methods.multipliers import make_temperature_dual
from haepo_jax.methods.record import Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.schedules import CONSTANT, SCHEDULE, with_schedules
from haepo_jax.methods.settings import Chosen, EpochsConfig, why_normalization_is_unit_free
from haepo_jax.types import Metrics


@with_schedules
@dataclasses.dataclass(frozen=True)
class VmpoLossConfig:
    """The loss of V-MPO on trajectories."""

    top_share: float = number(0.5, above=0.0, high=1.0, traced=False)
    """Share of a group that is learnt from, those of the largest returns."""
    normalization: str = choice("zscore", NORMALIZATIONS)
    """How the group's returns are brought to one scale: `zscore`, by their `sum`, or `none`."""
    temperature: float = number(1.0, above=0.0)
    """That of the first batch, in units of the normalised return; its dual moves it after each batch."""
    temperature_bound: float = number(0.5, above=0.0)
    """Divergence of the weights from even ones over the best, in nats, at which the dual holds them."""
    dual_learning_rate: float = number(0.1, above=0.0)
    """The most by which the logarithm of the temperature changes after a batch."""


@with_schedules
@dataclasses.dataclass(frozen=True)
class VmpoConfig(EpochsConfig, VmpoLossConfig):
    """V-MPO on an environment, where the batch is one group."""


def objective(settings: VmpoLossConfig, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
    """Makes V-MPO's loss of log-likelihoods `[..., M]`, with the metrics of its record."""
    del reference_log_likelihoods
    advantages = normalize_returns(group.returns, method=settings.normalization, where=group.valid)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, terms = vmpo_loss(
            log_likelihoods,
            advantages,
            temperature=settings.temperature,
            temperature_bound=settings.temperature_bound,
            top_share=settings.top_share,
            where=group.valid,
        )
        metrics = {
            "effective_sample_size": terms.effective_sample_size,
            "weights_kl": terms.weights_kl,
            "target_temperature": jnp.asarray(settings.temperature),
        }
        return loss, make_scalars(metrics)

    return loss_of


def _check(chosen: Chosen) -> None:
    schedule = "temperature" + SCHEDULE
    if getattr(chosen.settings, schedule) != CONSTANT:
        raise ConfigError(
            f"{chosen.where('temperature')} is moved by its dual, so that it takes no schedule; set "
            f"{chosen.where(schedule)} to {CONSTANT}."
        )


METHOD = Method(
    objective,
    Sees.SUMS,
    VmpoConfig(),
    metrics=("effective_sample_size", "weights_kl", "target_temperature"),
    check=_check,
    why_unit_free=why_normalization_is_unit_free,
    adaptation=lambda settings: make_temperature_dual("weights_kl"),
    language=OnLanguage(VmpoLossConfig(), check=_check),
)

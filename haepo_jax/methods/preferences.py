"""What methods that learn from pairs share: which pairs a batch has, and the loss of them put together."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from haepo_jax.errors import ConfigError
from haepo_jax.fields import choice
from haepo_jax.losses import PAIRS, DpoMetrics, preference_pairs
from haepo_jax.methods.record import ExtraMemory, Group, Method, Objective, OnLanguage, Sees, make_scalars
from haepo_jax.methods.settings import REFERENCES, Chosen, ReferenceConfig
from haepo_jax.types import Metrics


class Pairs(NamedTuple):
    """Of each pair the number of what is preferred, and of what it is preferred to; of any shape."""

    chosen: jax.Array
    rejected: jax.Array


PairLoss = Callable[[Any, Pairs, Pairs | None, Pairs, jax.Array | None], tuple[jax.Array, DpoMetrics]]
"""`(settings, log-likelihoods, those under the reference policy, lengths, which pairs count) -> (loss, terms)`."""
PAIRS_MEMORY = ExtraMemory("the pairs of its episodes", lambda num_trajectories: num_trajectories**2)
"""Of a method that compares every two trajectories of a batch of an environment."""


@dataclasses.dataclass(frozen=True)
class PairsConfig:
    """For a method that compares the trajectories of a batch of an environment."""

    pairs: str = choice("all", PAIRS)
    """Which pairs of a batch are compared: `all` of unequal returns, or the best with the worst."""


def make_method(name: str, loss: PairLoss, settings: Any, on_language: Any) -> Method:
    """Makes the record of a method that learns from pairs.

    It is online on an environment, where the larger return of a pair is preferred, and learns from comparisons that
    are given on language models. Its metrics are `accuracy`, `margin` and `num_pairs`.

    Args:
      name: of the method, for a sentence.
      loss: of pairs.
      settings: its settings on environments, a `PairsConfig` among them.
      on_language: those on language models.
    """

    def objective(settings: Any, group: Group, reference_log_likelihoods: jax.Array | None) -> Objective:
        pairs = preference_pairs(group.returns, pairs=settings.pairs, where=group.valid)

        def paired(values: jax.Array) -> Pairs:
            """`[..., M] -> [..., M, M]` twice: entry [i, j] is the pair in which i is preferred to j."""
            return Pairs(
                jnp.broadcast_to(values[..., :, None], pairs.shape),
                jnp.broadcast_to(values[..., None, :], pairs.shape),
            )

        return _put_together(settings, loss, paired, reference_log_likelihoods, group.lengths, pairs)

    def on_comparisons(settings: Any, reference_log_likelihoods: jax.Array, lengths: jax.Array) -> Objective:
        def paired(values: jax.Array) -> Pairs:
            return Pairs(values[..., 0], values[..., 1])

        return _put_together(settings, loss, paired, reference_log_likelihoods, lengths, None)

    return Method(
        objective,
        Sees.SUMS,
        settings,
        metrics=("accuracy", "margin", "num_pairs"),
        check=check_has_reference if isinstance(settings, ReferenceConfig) else None,
        why_unit_free=lambda chosen: f"{name} asks of two returns which is the larger alone",
        extra_memory=PAIRS_MEMORY,
        language=OnLanguage(on_language, comparisons=on_comparisons),
    )


def _put_together(
    settings: Any,
    loss: PairLoss,
    paired: Callable[[jax.Array], Pairs],
    reference_log_likelihoods: jax.Array | None,
    lengths: jax.Array,
    where: jax.Array | None,
) -> Objective:
    """The loss of the pairs that count, `paired` being `numbers [..., M] -> pairs`."""
    reference = None if reference_log_likelihoods is None else paired(reference_log_likelihoods)

    def loss_of(log_likelihoods: jax.Array) -> tuple[jax.Array, Metrics]:
        value, terms = loss(settings, paired(log_likelihoods), reference, paired(lengths), where)
        return value, make_scalars({"accuracy": terms.accuracy, "margin": terms.margin, "num_pairs": terms.num_pairs})

    return loss_of


def check_has_reference(chosen: Chosen) -> None:
    """Refuses a method without the reference policy that its loss measures against.

    Raises:
      ConfigError: so it is.
    """
    if chosen.settings.reference == "none":
        raise ConfigError(
            f"{chosen.where('reference')} is none, but preferences are measured against a reference policy; "
            f"choose one of {', '.join(REFERENCES[1:])}."
        )

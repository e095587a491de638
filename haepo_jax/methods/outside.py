"""What an objective from outside is held to while it is traced, so that a slip is a sentence that names its method."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from haepo_jax.components import checked_numbers, failures_named
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods.record import Method, Objective, make_scalars
from haepo_jax.types import Metrics

_PLACES = ("valid", "packed")
"""Fields of a `Group` and a `StepGroup` that say where the trajectories of a batch are."""


def hold_to_record(
    name: str, method: Method[Any], make_objective: Callable[..., Objective]
) -> Callable[..., Objective]:
    """Checks what the objectives of a method from outside give.

    Args:
      name: of the method, for the sentence of an error.
      method: its record.
      make_objective: the record's, or another that makes objectives of the same metrics.

    Returns:
      `make_objective`, whose objectives raise a `ConfigError` where they give no real number as loss or other metrics
      than the record names.
    """
    who = f"config.algorithm {name}"

    def make(settings: Any, batch: Any, *others: Any) -> Objective:
        batch, unseen = _watch(batch)
        with failures_named(who, make_objective):
            objective = make_objective(settings, batch, *others)

        def checked(evaluated: Any) -> tuple[jax.Array, Metrics]:
            with failures_named(who, objective):
                found = objective(evaluated)
            if unseen:
                raise ConfigError(
                    f"{who} does not look at `{min(unseen)}` of its {type(batch).__name__}, which says where the "
                    "episodes are in a batch that config.min_batch_steps counts in steps; let its loss use it, or "
                    "set min_batch_steps to None."
                )
            loss, metrics = _pair(name, found)
            loss = checked_numbers(who, loss, (), "one real number as its loss", real=True)
            if metrics.keys() != set(method.metrics):
                raise ConfigError(
                    f"{who} gives the metrics {_listed(metrics)}, and its record names "
                    f"{_listed(method.metrics)}; make them the same."
                )
            with failures_named(f"{who}: the mean of a metric"):
                return loss, make_scalars(metrics)

        return checked

    return make


def _watch(batch: Any) -> tuple[Any, set[str]]:
    """Returns what an objective is made of, and the names of those of its fields without which it would learn from
    episodes that are not there; looking at such a field takes its name away.
    """
    kind = type(batch)
    unseen = {name for name in _PLACES if name in getattr(kind, "_fields", ()) and getattr(batch, name) is not None}
    if not unseen:
        return batch, unseen

    def watched(name: str) -> property:
        place = kind._fields.index(name)

        def look(self: Any) -> Any:
            unseen.discard(name)
            return tuple.__getitem__(self, place)

        return property(look)

    return type(kind.__name__, (kind,), {name: watched(name) for name in unseen})(*batch), unseen


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _pair(name: str, found: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
        return found
    raise ConfigError(f"config.algorithm {name} gives {quoted(found)}; it must give (loss, metrics by name).")

"""What objective and adaptation of a method from outside are held to while they are traced, so that a slip is a
sentence that names the method.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.components import check_same_arrays, checked_numbers, failures_named
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods.record import Adaptation, Method, Objective, SeenBatch, make_scalars
from haepo_jax.types import Metrics, Params

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


def find_adaptation(who: str, method: Method[Any], settings: Any, *, is_outside: bool) -> Adaptation | None:
    """Finds how a method sets some of its settings while it learns; None where they stay.

    Args:
      who: the name of the method, for the sentence of an error.
      method: its record.
      settings: its settings.
      is_outside: whether what it gives is to be checked while it is traced.
    """
    if method.adaptation is None:
        return None
    if not is_outside:
        return method.adaptation(settings)
    who = f"config.algorithm {who}"
    with failures_named(who, method.adaptation):
        found = method.adaptation(settings)
    if found is None or isinstance(found, Adaptation):
        return None if found is None else _hold_to_types(who, found)
    raise ConfigError(f"{who} has an adaptation that gives {quoted(found)}; it must give an Adaptation, or None.")


def _hold_to_types(who: str, adaptation: Adaptation) -> Adaptation:
    """Holds an adaptation from outside to the settings and the state that it was given."""

    def init(settings: Any, params: Params) -> Any:
        with failures_named(who, adaptation.init):
            # As of optimisers: a loop carries the state, in which no number may change its dtype.
            return jax.tree.map(
                lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), adaptation.init(settings, params)
            )

    def begin(settings: Any, state: Any, batch: SeenBatch) -> tuple[Any, Any]:
        with failures_named(who, adaptation.begin):
            adapted, after = adaptation.begin(settings, state, batch)
        if type(adapted) is not type(settings):
            raise ConfigError(f"{who} adapts its settings to {quoted(adapted)}; they must stay what they are.")
        check_same_arrays(f"{who} makes a state of its adaptation", "of the state before", state, after)
        return adapted, after

    def end(settings: Any, state: Any, batch: SeenBatch, metrics: Metrics) -> Any:
        with failures_named(who, adaptation.end):
            after = adaptation.end(settings, state, batch, metrics)
        check_same_arrays(f"{who} makes a state of its adaptation", "of the state before", state, after)
        return after

    return Adaptation(init, begin, end)


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

"""What an objective from outside is held to while it is traced, so that a slip is a sentence that names its method."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from haepo_jax.components import checked_numbers, failures_named
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods.record import Method, Objective, make_scalars
from haepo_jax.types import Metrics


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

    def make(*arguments: Any) -> Objective:
        with failures_named(who, make_objective):
            objective = make_objective(*arguments)

        def checked(evaluated: Any) -> tuple[jax.Array, Metrics]:
            with failures_named(who, objective):
                found = objective(evaluated)
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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _pair(name: str, found: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
        return found
    raise ConfigError(f"config.algorithm {name} gives {quoted(found)}; it must give (loss, metrics by name).")

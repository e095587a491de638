"""What a method from outside is held to, so that a slip is a sentence that names it."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from haepo_jax.components import checked_numbers, failures_named, is_outside
from haepo_jax.config import ExperimentConfig, method_of
from haepo_jax.config.method import method_name
from haepo_jax.environments import Environment
from haepo_jax.environments.contract import BY_EVERY_RUN, names_a_setting
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods import Objective, scalars
from haepo_jax.types import Metrics


def check_metrics(config: ExperimentConfig, environment: Environment) -> None:
    """Refuses metrics of a method whose names are taken.

    Raises:
      ConfigError: by what every run reports, by the environment or by a setting.
    """
    if not is_outside(config.algorithm):
        return
    for name in method_of(config).metrics:
        if name in BY_EVERY_RUN or name in environment.info_metrics or names_a_setting(name):
            whose = environment.name if name in environment.info_metrics else "a run itself"
            raise ConfigError(
                f"config.algorithm {method_name(config)} has a metric {quoted(name)}, which is what {whose} reports "
                "under that name; give it another one."
            )


def objective_of(config: ExperimentConfig) -> Callable[..., Objective]:
    """Returns the objective of the config's method; what one from outside gives is checked while it is traced."""
    method = method_of(config)
    if not is_outside(config.algorithm):
        return method.objective

    who = f"config.algorithm {method_name(config)}"

    def make(*arguments: Any) -> Objective:
        with failures_named(who, method.objective):
            objective = method.objective(*arguments)

        def checked(evaluated: Any) -> tuple[jax.Array, Metrics]:
            with failures_named(who, method.objective):
                found = objective(evaluated)
            loss, metrics = _pair(method_name(config), found)
            loss = checked_numbers(who, loss, (), "one real number as its loss", real=True)
            if metrics.keys() != set(method.metrics):
                raise ConfigError(
                    f"{who} gives the metrics {_listed(metrics)}, and its record "
                    f"names {_listed(method.metrics)}; make them the same."
                )
            with failures_named(f"{who}: the mean of a metric", method.objective):
                return loss, scalars(metrics)

        return checked

    return make


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _pair(name: str, found: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
        return found
    raise ConfigError(f"config.algorithm {name} gives {quoted(found)}; it must give (loss, metrics by name).")

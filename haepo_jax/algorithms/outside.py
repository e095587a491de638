"""What a method from outside is held to, so that a slip is a sentence that names it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haepo_jax.components import check_same_arrays, failures_named, is_outside
from haepo_jax.config import ExperimentConfig, get_method, get_method_settings
from haepo_jax.config.method import name_method
from haepo_jax.environments import Environment
from haepo_jax.environments.contract import BY_EVERY_RUN, check_written_name, names_a_setting
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.methods import Adaptation, Objective, SeenBatch
from haepo_jax.methods.outside import hold_to_record
from haepo_jax.types import Metrics, Params


def check_metrics(config: ExperimentConfig, environment: Environment) -> None:
    """Refuses metrics of a method whose names are taken or cannot be written.

    Raises:
      ConfigError: taken by what every run reports, by the environment or by a setting; or no Unicode text.
    """
    if not is_outside(config.algorithm):
        return
    for name in get_method(config).metrics:
        check_written_name(f"config.algorithm {name_method(config)}", name)
        if name in BY_EVERY_RUN or name in environment.info_metrics or names_a_setting(name):
            whose = environment.name if name in environment.info_metrics else "a run itself"
            raise ConfigError(
                f"config.algorithm {name_method(config)} has a metric {quoted(name)}, which is what {whose} reports "
                "under that name; give it another one."
            )


def get_objective(config: ExperimentConfig) -> Callable[..., Objective]:
    """Returns the objective of the config's method; what one from outside gives is checked while it is traced."""
    method = get_method(config)
    if not is_outside(config.algorithm):
        return method.objective

    return hold_to_record(name_method(config), method, method.objective)


def get_adaptation(config: ExperimentConfig) -> Adaptation | None:
    """Returns how the config's method sets some of its settings while it learns; None where they stay.

    That of a method from outside is checked while it is traced.
    """
    method = get_method(config)
    if method.adaptation is None:
        return None
    if not is_outside(config.algorithm):
        return method.adaptation(get_method_settings(config))
    who = f"config.algorithm {name_method(config)}"
    with failures_named(who, method.adaptation):
        found = method.adaptation(get_method_settings(config))
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

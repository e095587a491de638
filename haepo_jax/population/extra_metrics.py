"""More columns of an update's batch, by what `config.metrics` names."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from haepo_jax import components
from haepo_jax.config import ExperimentConfig, TracedConfig
from haepo_jax.environments.contract import check_reported_name
from haepo_jax.errors import ConfigError, quoted
from haepo_jax.rollouts.steps import steps_of
from haepo_jax.types import Metrics


def make_extra_metrics(config: ExperimentConfig) -> Callable[[TracedConfig, Any, Mapping[str, Any]], Metrics]:
    """Makes `(traced config, batch, metrics that the update reports already) -> more metrics`, float32 scalars.

    Raises:
      ConfigError: `config.metrics` cannot be loaded.
    """
    name, path = config.metrics, "metrics"
    if not components.is_outside(name):
        return lambda traced, batch, reported: {}
    outside = components.load(path, name)

    def metrics_of(traced: TracedConfig, batch: Any, reported: Mapping[str, Any]) -> Metrics:
        steps = steps_of(batch)
        if steps is None:
            raise ConfigError(f"config.{path} {name} needs the steps of a batch, and {config.algorithm} gives none.")
        found = components.call(path, outside, steps, kwargs=config.metrics_kwargs, params=traced.metrics_params)
        if not isinstance(found, Mapping):
            raise ConfigError(f"config.{path} {name} gives {quoted(found)}; it must give metrics by name.")
        numbers = {}
        for metric, value in found.items():
            if not isinstance(metric, str) or not metric:
                raise ConfigError(f"config.{path} {name} names a metric {quoted(metric)}; a name must be text.")
            check_reported_name(f"config.{path} {name}", metric)
            if metric in reported:
                raise ConfigError(f"config.{path} {name}: there is a metric {quoted(metric)} already; rename it.")
            numbers[metric] = components.checked_numbers(
                f"config.{path} {name}: the metric {quoted(metric)}", value, (), "one number"
            )
        return {metric: value.astype(jnp.float32) for metric, value in numbers.items()}

    return metrics_of

"""The method of an experiment: its record, and its settings as the config has them."""

from typing import Any

from haepo_jax.config.settings import ExperimentConfig
from haepo_jax.fields import leaves
from haepo_jax.methods import METHODS, Chosen, Method, gradient_steps


def method_of(config: ExperimentConfig) -> Method[Any]:
    """Returns the record of the method that learns."""
    return METHODS[config.algorithm]


def method_settings(config: ExperimentConfig) -> Any:
    """Returns the method's settings; of a traced config with tracers in their places."""
    return getattr(config, config.algorithm)


def setting_name(config: ExperimentConfig, leaf: str) -> str:
    """Returns the dotted name in the config of one of the method's settings."""
    return f"{config.algorithm}.{leaf}"


def steps_of_update(config: ExperimentConfig) -> int:
    """Counts the gradient steps of an update."""
    return gradient_steps(method_settings(config))


def chosen_of(config: ExperimentConfig) -> Chosen:
    """Returns the method's settings for its checks."""
    settings = method_settings(config)
    names = {leaf: setting_name(config, leaf) for leaf, _, _ in leaves(settings)}
    swept = {leaf: config.sweep[name] for leaf, name in names.items() if name in config.sweep}
    return Chosen(settings, swept, names, config.num_trajectories)

"""Population-based training as settings: who belongs to which population, which settings change, and between what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from haepo_jax.config.checks import ENV_PARAMS, check_argument, check_value, flatten
from haepo_jax.config.distribution import Distribution
from haepo_jax.config.reads import unread, why_unread
from haepo_jax.config.settings import FIELDS, ExperimentConfig, is_traced
from haepo_jax.errors import ConfigError, nearest, quoted
from haepo_jax.fields import group_of

EVAL_RETURN = "eval_return"


def is_population_based(config: ExperimentConfig) -> bool:
    """Returns whether members copy one another."""
    return config.pbt.every is not None


def bounds_of(config: ExperimentConfig) -> dict[str, tuple[float, float]]:
    """Returns the settings that change when a member copies, by dotted name, each with its lowest and highest value.

    Example:
      >>> from haepo_jax.config import from_config_dict
      >>> pbt = {"every": 5, "perturb": {"optimizer": {"learning_rate": (1e-4, 1e-2)}}}
      >>> bounds_of(from_config_dict({"pbt": pbt}))
      {'optimizer.learning_rate': (0.0001, 0.01)}
    """
    if config.pbt.perturb:
        return dict(sorted(config.pbt.perturb.items()))
    return {name: (min(values), max(values)) for name, values in sorted(config.sweep.items())}


def draw_settings(config: ExperimentConfig, point: Mapping[str, Any], number: int, seed: int) -> dict[str, float]:
    """Draws the first value of each setting that changes and has none: log-uniformly, or uniformly from 0 or below.

    They follow from the seed and the point alone, whichever others there are.

    Args:
      config: the experiment.
      point: the swept settings of the member.
      number: of the point.
      seed: of the member.
    """
    if not is_population_based(config):
        return {}
    generator = np.random.default_rng([seed, number])
    drawn = {}
    for name, (low, high) in bounds_of(config).items():
        if name not in point:
            whole = isinstance(low, int)
            kind = "integer" if whole else "log_uniform" if low > 0 else "uniform"
            value = Distribution(kind, low, high).draw(generator)
            drawn[name] = value if whole else float(np.clip(np.float32(value), np.float32(low), np.float32(high)))
    return drawn


def arrange(config: ExperimentConfig, num_points: int, num_seeds: int) -> Iterator[tuple[int, int, int | None]]:
    """Puts members in order: of a point all seeds together; with several populations one after the other.

    Args:
      config: the experiment.
      num_points: combinations of settings.
      num_seeds: of each.

    Yields:
      Of each member the number of its point, that of its seed, and its population; None without population-based
      training.

    Raises:
      ConfigError: the seeds cannot be divided so, a population would have one member, or members copy one another and
        no setting can change.

    Example:
      >>> from haepo_jax.config import from_config_dict
      >>> pbt = {"every": 5, "populations": 2}
      >>> config = from_config_dict({"num_seeds": 2, "sweep": {"haepo": {"entropy_coef": (0.0, 0.1)}}, "pbt": pbt})
      >>> list(arrange(config, num_points=2, num_seeds=2))
      [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)]
    """
    if not is_population_based(config):
        yield from ((point, seed, None) for point in range(num_points) for seed in range(num_seeds))
        return
    if config.pbt.fraction and not any(low < high for low, high in bounds_of(config).values()):
        raise ConfigError(
            "config.pbt.every is set, and no setting can change: name one in config.pbt.perturb, such as "
            "config.pbt.perturb.optimizer.learning_rate=(1e-4,1e-2), or sweep one."
        )
    populations = config.pbt.populations
    if num_seeds % populations:
        raise ConfigError(f"config.pbt.populations {populations} does not divide the {num_seeds} seeds.")
    size = num_seeds // populations
    if num_points * size < 2:
        raise ConfigError(
            f"config.pbt.populations {populations} makes populations of one member, which has nobody to copy; take "
            "more seeds, or fewer populations."
        )
    for population in range(populations):
        for point in range(num_points):
            for seed in range(size):
                yield point, population * size + seed, population


def check_bounds(path: str, value: Any) -> dict[str, tuple[float, float]]:
    """Checks settings with their bounds, and returns them by dotted name.

    Args:
      path: of the group of them.
      value: by name, nested or not.

    Raises:
      ConfigError: a setting that is not traced, or what is no pair of its values.
    """
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ConfigError(f"config.{path} must map settings to their bounds, got {quoted(value)}.")
    nested = value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value
    checked = {}
    for name, bounds in flatten(nested, where=f"config.{path}.").items():
        if bounds == {}:
            continue
        if not is_traced(name):
            known = [known for known in FIELDS if is_traced(known)]
            hint = nearest(name, known) or f"; allowed: {', '.join(known)}."
            raise ConfigError(f"config.{path}.{name} cannot change within one program{hint}")
        if not isinstance(bounds, list | tuple) or len(bounds) != 2 or None in bounds:
            raise ConfigError(f"config.{path}.{name} must be two numbers, the lower first, got {quoted(bounds)}.")
        group = group_of(name, FIELDS)
        low, high = (
            check_value(f"{path}.{name}", bound, FIELDS[name])
            if group is None
            else check_argument(f"{path}.{name}", bound, FIELDS[group])
            for bound in bounds
        )
        if not low < high:
            raise ConfigError(f"config.{path}.{name} must be two numbers, the lower first, got {quoted(bounds)}.")
        checked[name] = (low, high)
    return checked


def check_population_based(config: ExperimentConfig) -> None:
    """Refuses settings of population-based training that make no sense together, or with others.

    Raises:
      ConfigError: names the first of them.
    """
    pbt = config.pbt
    if pbt.every is None:
        return
    if pbt.every >= config.num_updates:
        raise ConfigError(
            f"config.pbt.every {pbt.every} must be below config.num_updates {config.num_updates}, as nobody copies "
            "after the last update."
        )
    for name in (*config.sweep, *pbt.perturb):
        if name.startswith(ENV_PARAMS):
            raise ConfigError(
                f"config.pbt compares members by their returns, so they must play one task: neither sweep nor perturb "
                f"{name}."
            )
    reasons = unread(config)
    for name, (low, high) in pbt.perturb.items():
        if (reason := why_unread(name, reasons)) is not None:
            raise ConfigError(f"config.pbt.perturb.{name} has no effect, as {reason}.")
        outside = [value for value in config.sweep.get(name, ()) if not low <= value <= high]
        if outside:
            raise ConfigError(
                f"config.sweep.{name} has the value {outside[0]}, which is not within the bounds of "
                f"config.pbt.perturb.{name}, {low} to {high}."
            )
    _check_metric(config)


def _check_metric(config: ExperimentConfig) -> None:
    """That of an evaluation must be there at every exchange; others are looked up in those of the program."""
    if config.pbt.metric != EVAL_RETURN:
        return
    if config.evaluate_every is None:
        raise ConfigError("config.pbt.metric eval_return needs config.evaluate_every, which is unset.")
    if config.pbt.every is not None and config.evaluate_every > config.pbt.every:
        raise ConfigError(
            f"config.pbt.metric eval_return needs an evaluation between two exchanges: config.evaluate_every "
            f"{config.evaluate_every} must be at most config.pbt.every {config.pbt.every}."
        )


def changing_settings(config: ExperimentConfig, settings: Sequence[str]) -> tuple[str, ...]:
    """Returns which of a member's settings may be others after an exchange than before.

    Args:
      config: the experiment.
      settings: the names of those that differ between members.
    """
    return tuple(name for name in settings if is_traced(name)) if is_population_based(config) else ()

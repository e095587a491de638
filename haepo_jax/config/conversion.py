"""The ways of a configuration: in from flags and files, out as JSON, and into the program as traced settings."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Set
from types import MappingProxyType
from typing import Any, NewType

import ml_collections
from ml_collections import config_dict

from haepo_jax.components import is_outside
from haepo_jax.config.checks import (
    check_argument,
    check_combinations,
    check_sweep,
    check_value,
    flatten,
)
from haepo_jax.config.method import STATIC_GROUP, list_components, with_all_settings
from haepo_jax.config.pbt import bounds_of, check_bounds, check_population_based, is_population_based
from haepo_jax.config.plain_values import plain
from haepo_jax.config.settings import FIELDS, ExperimentConfig
from haepo_jax.errors import ConfigError, nearest, quoted, suggestion
from haepo_jax.fields import BOUNDS, TRACED, group_of, is_empty, leaves
from haepo_jax.methods import METHODS, Sees

TracedConfig = NewType("TracedConfig", ExperimentConfig)
"""The config of one member inside the program, by convention named `traced`.

Two configs meet in the code of an algorithm. `config` is static: it decides the program and is the same for all
members. `traced` has tracers in the place of the traced settings, the member's own values: each number that a sweep
may vary is read from it alone. Read from `config` it would be a constant, and a sweep of it would do nothing.
"""


def default_config() -> ml_collections.ConfigDict:
    """The default configuration as a ConfigDict, for a `get_config` to change and flags to override."""
    return to_config_dict(ExperimentConfig())


def from_config_dict(values: Mapping[str, Any]) -> ExperimentConfig:
    """Makes and validates the frozen configuration.

    Args:
      values: a ConfigDict, or nested dictionaries as in `config.json`; missing fields take their defaults.

    Returns:
      The `ExperimentConfig`.

    Raises:
      ConfigError: an unknown field, or a value of the wrong kind or out of its bounds.

    Example:
      >>> from_config_dict({"num_seeds": 4, "haepo": {"score": "mean"}}).haepo.score
      'mean'
    """
    config = with_all_settings(from_mapping(ExperimentConfig(), values))
    check_combinations(config)
    check_population_based(config)
    return config


def to_json(config: ExperimentConfig) -> dict[str, Any]:
    """The configuration as nested dictionaries that JSON can hold."""
    settings = dataclasses.asdict(config) | {"sweep": {name: list(values) for name, values in config.sweep.items()}}
    return {name: value for name, value in settings.items() if not is_empty(getattr(config, name))}


def setting_names() -> list[str]:
    """Every setting by its dotted name.

    Example:
      >>> "haepo.score" in setting_names()
      True
    """
    return [name for name, _, _ in leaves(ExperimentConfig())]


def traced_settings(config: ExperimentConfig) -> dict[str, float | int]:
    """The settings that are traced leaves of the program, by dotted name.

    Example:
      >>> traced_settings(ExperimentConfig())["haepo.entropy_coef"]
      0.005
    """
    settings: dict[str, Any] = {}
    for name, value, field in leaves(config):
        if field.metadata.get("traced"):
            settings[name] = value
        elif field.metadata.get("group") == TRACED:
            settings |= {f"{name}.{argument}": number for argument, number in value.items()}
    # What is swept or drawn need not be set besides: an argument of a component, or a setting that may be unset.
    drawn = bounds_of(config) if is_population_based(config) else {}
    for name, values in {**drawn, **config.sweep}.items():
        if group_of(name, FIELDS) is not None or settings[name] is None:
            settings[name] = values[0]
    return {name: value for name, value in settings.items() if value is not None}


def with_settings(config: ExperimentConfig, settings: Mapping[str, Any]) -> TracedConfig:
    """Puts traced settings into a configuration; their values may be tracers.

    Args:
      config: the configuration.
      settings: values by dotted name, names as in `traced_settings`.

    Returns:
      A configuration for use inside the program; it is not validated again.
    """
    for name, value in settings.items():
        config = _with(config, name.split("."), value)
    return TracedConfig(config)


def _with(holder: Any, path: list[str], value: Any) -> Any:
    """A config, a section or a group of arguments with the setting at this path replaced."""
    first, *rest = path
    is_group = isinstance(holder, Mapping)
    if rest:
        value = _with(holder[first] if is_group else getattr(holder, first), rest, value)
    return {**holder, first: value} if is_group else dataclasses.replace(holder, **{first: value})


def with_components(config: ExperimentConfig, components: Mapping[str, Any]) -> ExperimentConfig:
    """Puts components themselves in the place of their names, for a program; no file can hold such a config.

    Args:
      config: the configuration.
      components: by the last part of the setting that names them, such as `network` or `score`; `environment` for
        `env`. None leaves what the config names.

    Raises:
      ConfigError: there is no such component, or one that cannot be called; settings that do not go together.

    Example:
      >>> with_components(ExperimentConfig(), {"activation": abs}).policy.activation is abs
      True
    """
    for keyword, component in sorted(components.items(), key=lambda item: item[0] != "algorithm"):  # which has its own
        names = _name_keywords(config)
        if keyword not in names:
            raise ConfigError(f"{keyword} is no component{suggestion(keyword, list(names))}")
        if component is None:
            continue
        if isinstance(component, int | float | Mapping):
            raise ConfigError(f"{keyword} must be a component or its name, got {quoted(component)}.")
        config = _with(config, names[keyword].split("."), component)
    config = with_all_settings(config)
    check_combinations(config)
    check_population_based(config)
    return config


def _name_keywords(config: ExperimentConfig) -> dict[str, str]:
    """The settings that name components by the keywords of a program; of one name, that of the method that learns."""
    section = STATIC_GROUP if is_outside(config.algorithm) else config.algorithm
    listed = sorted(list_components(config), key=lambda name: name.startswith(f"{section}."))
    names = {name.rpartition(".")[2]: name for name in listed}
    names["environment"] = names.pop("env")
    return names


def checked_settings(config: ExperimentConfig, settings: Mapping[str, Any]) -> dict[str, float | int]:
    """Checks settings of one program as those of flags and files are checked.

    Args:
      config: of the program.
      settings: values by dotted name, names as in `traced_settings`.

    Returns:
      The values in the types that the program holds them in.

    Raises:
      ConfigError: a setting that is not known or that nothing reads, or a value that is not allowed.

    Example:
      >>> checked_settings(ExperimentConfig(), {"optimizer.learning_rate": 1})
      {'optimizer.learning_rate': 1.0}
    """
    known = traced_settings(config)
    checked: dict[str, float | int] = {}
    for name, value in plain(settings).items():
        if name not in known:
            raise ConfigError(f"{name} cannot be set within one program; allowed: {', '.join(known)}.")
        group = group_of(name, FIELDS)
        number = (
            check_value(name, value, FIELDS[name]) if group is None else check_argument(name, value, FIELDS[group])
        )
        kind = type(known[name])
        if kind is int and not isinstance(number, int):
            raise ConfigError(f"config.{name} is a whole number in this program, got {number}.")
        checked[name] = kind(number)
    swept = dataclasses.replace(config, sweep={name: (value,) for name, value in checked.items()})
    check_combinations(swept, "config.")  # as the caller names them, who sweeps nothing
    return checked


def sweep_points(config: ExperimentConfig) -> Iterator[dict[str, float]]:
    """Every combination of the swept settings, in order; one empty combination when nothing is swept."""
    for values in itertools.product(*config.sweep.values()):
        yield dict(zip(config.sweep, values, strict=True))


def differing_fields(
    old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """The dotted names of the fields in which two configurations (as `to_json`) differ, with both values.

    A setting that one of them leaves out has its default there: it came later than the run. What nothing reads in
    either is left out: sections of methods that do not learn, and what every point of a search replaces.

    Args:
      old: as a folder holds it.
      new: that of the command.
      defaults: nested as these, of settings that are none of an experiment's.
    """
    flat_old, flat_new = ({k: v for k, v in flatten(values).items() if v != {}} for values in (old, new))
    known = flatten(defaults)
    found = []
    unread = _list_unread_sections(_list_algorithms(flat_old) | _list_algorithms(flat_new))
    replaced = _list_replaced(flat_old) & _list_replaced(flat_new)
    for name in sorted(flat_old.keys() | flat_new.keys()):
        if name.partition(".")[0] in unread or name in replaced:
            continue
        was, now = (flat[name] if name in flat else known.get(name, _default(name)) for flat in (flat_old, flat_new))
        if was != now:
            found.append(f"{name} (was {was}, now {now})")
    return found


def _list_unread_sections(algorithms: Set[str]) -> set[str]:
    """Lists the sections that nothing reads where these methods learn."""
    unread = METHODS.keys() - algorithms
    if algorithms and all(name in METHODS and METHODS[name].sees is Sees.SEGMENTS for name in algorithms):
        return unread | {"exploration"}
    return unread


def _list_algorithms(flat: Mapping[str, Any]) -> set[str]:
    """Lists the methods that learn in an experiment, or in any group of a sweep; settings by dotted name."""
    named = [flat.get("algorithm")]
    for given in (flat.get("sweep.algorithm"), flat.get("search.points")):
        if isinstance(given, list):
            named += [value.get("algorithm") if isinstance(value, Mapping) else value for value in given]
    return {name for name in named if isinstance(name, str)}


def _list_replaced(flat: Mapping[str, Any]) -> set[str]:
    """Lists the settings that every point of a search has a value of its own for."""
    points = flat.get("search.points")
    if not isinstance(points, list) or not all(isinstance(point, Mapping) for point in points):
        return set()
    return set.intersection(*map(set, points)) if points else set()


def _default(name: str) -> Any:
    """Of a setting, as JSON holds it; None where there is none of this name.

    Language models have optimisers of their own, one for each stage.
    """
    *_, section, leaf = ["", *name.split(".")]
    for known in (name, f"{section}.{leaf}" if section == "optimizer" else name):
        if known in FIELDS and not FIELDS[known].metadata.get("group"):
            value = FIELDS[known].default
            return list(value) if isinstance(value, tuple) else value
    return None


def to_config_dict(config: Any) -> ml_collections.ConfigDict:
    """A configuration as a ConfigDict."""
    result = ml_collections.ConfigDict()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if is_empty(value):
            continue
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            value = config_dict.placeholder(float if field.type == float | None else int)
        elif isinstance(value, Mapping):
            value = ml_collections.ConfigDict(dict(value))
        result[field.name] = value
    return result


def from_mapping[Config](default: Config, values: Mapping[str, Any], prefix: str = "") -> Config:
    """A configuration with these fields, each checked by itself; those that are missing are as in `default`."""
    fields = {field.name: field for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    if not prefix:
        values = plain(values)
    for name in values:
        if name not in fields:
            if name == "search" and not prefix:
                raise ConfigError("config.search belongs to a sweep: give this config to experiments.sweep.")
            raise ConfigError(f"config.{prefix}{name} is not a setting{nearest(name, list(fields)) or '.'}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        field, path = fields[name], f"{prefix}{name}"
        if name == "sweep" and not prefix:
            made[name] = check_sweep(value)
        elif field.metadata.get("group") == BOUNDS:
            made[name] = check_bounds(path, value)
        elif dataclasses.is_dataclass(field.type):
            if not isinstance(value, Mapping | ml_collections.ConfigDict):
                raise ConfigError(f"config.{path} is a group of settings, got {quoted(value)}.")
            made[name] = from_mapping(getattr(default, name), dict(value), f"{path}.")
        else:
            made[name] = check_value(path, value, field)
    return dataclasses.replace(default, **made)  # type: ignore[type-var]

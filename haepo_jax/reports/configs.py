"""Configs side by side: what differs from the defaults, and what differs between runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def find_changed(config: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Finds the settings that differ from the defaults, by dotted name.

    Example:
      >>> find_changed({"seed": 1, "ppo": {"num_epochs": 4}}, {"seed": 0, "ppo": {"num_epochs": 4}})
      {'seed': 1}
    """
    result: dict[str, Any] = {}
    for name, value in config.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            result |= find_changed(value, default, f"{prefix}{name}.")
        elif name not in defaults or write_value(value) != write_value(default):
            result[prefix + name] = value
    return result


def find_differing(configs: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Finds the settings that are not alike in all configs, by dotted name, each with its value in every config.

    A setting that a config lacks, as it is of an older version, has its default there.

    Example:
      >>> find_differing([{"seed": 1, "env": "Catch-bsuite"}, {"env": "Catch-bsuite"}], {"seed": 0})
      {'seed': [1, 0]}
    """
    changed = [find_changed(config, defaults) for config in configs]
    names = dict.fromkeys(name for settings in changed for name in settings)
    values = {name: [settings.get(name, look_up(defaults, name)) for settings in changed] for name in names}
    return {name: row for name, row in values.items() if len({write_value(value) for value in row}) > 1}


def write_value(value: Any) -> str:
    """Writes a value of a config as text, equal values alike."""
    return json.dumps(value)


def look_up(config: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a dotted name; None where there is none."""
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value

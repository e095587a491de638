"""Configs: Python files whose `get_config` returns a ConfigDict, and the settings that override theirs."""

import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import ml_collections

from experiments.cli.arguments import Override, group_of
from experiments.cli.shipped_configs import find_config, suggest_config
from haepo_jax.components import make_importable
from haepo_jax.config.checks import without
from haepo_jax.config.meanings import Setting
from haepo_jax.config.plain_values import plain
from haepo_jax.errors import CODE_FAILURES, ConfigError, first_line, how_it_ended, quoted

_MODULE = "config_file"


def load(given: str, overrides: Sequence[Override], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Loads a config and puts the overrides in place.

    Args:
      given: a path or the name of a shipped config; with `:ARGUMENT` behind it for a `get_config` that takes one.
      overrides: settings by dotted name.
      settings: all by dotted name.

    Returns:
      The settings as nested dictionaries of plain Python, not yet checked.

    Raises:
      ConfigError: there is no such file, or what it does is not what a config file does.
    """
    path, argument = _split_argument(given)
    config = _call_get_config(path, argument)
    below: list[tuple[str, Override]] = []
    for override in overrides:
        group = group_of(override.name, settings)
        if group is None:
            _set_override(config, override)
        else:
            below.append((group, override))
    values = plain(config)
    for group, override in below:
        holder, leaf = _holder(values, group)
        holder[leaf] = without(_group(holder, leaf, group), override.name.removeprefix(f"{group}."))
    for group, override in below:  # only now: two of them may be of one setting, which is refused
        holder, leaf = _holder(values, group)
        holder[leaf][override.name.removeprefix(f"{group}.")] = override.value
    return values


def _holder(values: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The section that holds a setting, made where it is not there, and the setting's own name."""
    *sections, leaf = name.split(".")
    for depth, section in enumerate(sections, start=1):
        values[section] = values = _group(values, section, ".".join(sections[:depth]))
    return values, leaf


def _group(holder: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    held = holder.get(name, {})
    if not isinstance(held, dict):
        raise ConfigError(f"config.{path} is a group of settings, got {quoted(held)}.")
    return held


def _split_argument(given: str) -> tuple[Path, str | None]:
    """Returns the file, and the argument behind it; what lies here goes before what is shipped under its name."""
    ends = [*(k for k, character in enumerate(given) if character == ":"), len(given)]
    for find in (_find_file, find_config):
        for end in reversed(ends):
            path = find(given[:end])
            if path is not None:
                return path, given[end + 1 :] if end < len(given) else None
    name = given.partition(":")[0]
    raise ConfigError(f"--config={quoted(given)[1:-1]} is neither a file nor a shipped config{suggest_config(name)}")


def _find_file(given: str) -> Path | None:
    path = Path(given)
    try:
        return path if path.is_file() else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ConfigError(f"--config={quoted(given)[1:-1]} is no path: {reason}.") from error


def _call_get_config(path: Path, argument: str | None) -> ml_collections.ConfigDict:
    """Returns the result of the file's `get_config`."""
    get_config = _run_guarded(path, lambda: getattr(_import_file(path), "get_config", None))
    if not callable(get_config):
        what = "has no function get_config" if get_config is None else f"has a get_config that is {quoted(get_config)}"
        raise ConfigError(f"--config={path} {what}; it must return a ConfigDict.")
    arguments = () if argument is None else (argument,)
    _check_signature(path, get_config, arguments)
    config = _run_guarded(path, lambda: get_config(*arguments))
    if isinstance(config, ml_collections.FrozenConfigDict):
        return ml_collections.ConfigDict(config)
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            f"get_config of --config={path} returns {quoted(config)}; it must return a ConfigDict, such as "
            "haepo_jax.config.default_config() gives."
        )
    return config


def _run_guarded(path: Path, step: Callable[[], Any]) -> Any:
    """The result of what a config file does, which may be anything; what it raises becomes a sentence."""
    try:
        return step()
    except CODE_FAILURES as error:
        raise ConfigError(f"The config file could not be loaded: --config={path} {how_it_ended(error)}.") from error


def _check_signature(path: Path, get_config: Callable, arguments: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(get_config)
    except (TypeError, ValueError):
        return  # of a built-in; calling it will show
    try:
        signature.bind(*arguments)
    except TypeError as error:
        given = f"FILE:{arguments[0]} gives it one" if arguments else "--config=FILE gives it none"
        hint = "" if arguments else "; --config=FILE:TEXT gives it one"
        raise ConfigError(f"get_config{signature} of --config={path} takes other arguments: {given}{hint}.") from error


class _Source(importlib.machinery.SourceFileLoader):
    """Compiles the text that lies there now.

    Python's own cache takes exp.1 and exp.2 for one file, and a text for an older one of equal length and time.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Compiles the code of the file, neither read from `__pycache__` nor written there."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_file(path: Path) -> ModuleType:
    """Imports the file under a name of its own."""
    loader = _Source(_MODULE, str(path))
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # where dataclasses look for it
    make_importable(path.parent)  # for the modules that the file imports, or names in its settings
    loader.exec_module(module)
    return module


def _set_override(config: ml_collections.ConfigDict, override: Override) -> None:
    *sections, leaf = override.name.split(".")
    for section in sections:
        inner = config.get(section)
        if inner is None:
            with config.unlocked():
                config[section] = ml_collections.ConfigDict()
            inner = config[section]
        if not isinstance(inner, ml_collections.ConfigDict):
            raise ConfigError(f"config.{section} is a group of settings, got {quoted(inner)}.")
        config = inner
    with config.unlocked():
        if dict(config.items(preserve_field_references=True)).get(leaf) is None:  # nothing refers to it
            config[leaf] = override.value
        else:
            config.get_ref(leaf).set(override.value, type_safe=False)  # which settings that refer to it follow

"""The arguments of a command: its flags, and the settings that override those of a config file.

Absl parses the flags. What it lets pass (a flag given twice, `1_0`, `nan`) or answers with a traceback becomes a
sentence here. Settings, `--config.NAME=VALUE`, are taken out before, as their names come from the config.
"""

import ast
import io
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from haepo_jax.config.meanings import Setting
from haepo_jax.errors import ConfigError, nearest, quoted

_INT32_MAX = 2**31 - 1
_MOST_SECONDS = 10**9  # which the clocks of threads and of JAX hold; every real number among the flags is of seconds
HELP = ("help", "helpshort", "helpfull", "h")


class Override(NamedTuple):
    """A setting that an argument gives."""

    name: str
    """Dotted, without `config.`."""
    text: str
    """As it was given."""
    value: Any


class Arguments(NamedTuple):
    """The arguments of a command besides its own flags, which absl holds."""

    overrides: tuple[Override, ...]
    asks_for_help: bool


def parse(argv: Sequence[str], flag_values: flags.FlagValues, settings: Mapping[str, Setting]) -> Arguments:
    """Parses the arguments of a command.

    Args:
      argv: the name of the command, then its arguments.
      flag_values: the flags of the command; they get their values.
      settings: those of its config by dotted name, none for a command that takes no config.

    Returns:
      What is not a flag of the command's own.

    Raises:
      ConfigError: an argument that is unknown, that is given twice, or whose value is not allowed.
    """
    arguments = _read_flag_files(argv[1:], flag_values)
    if any(argument.lstrip("-") in HELP and argument.startswith("-") for argument in arguments):
        return Arguments((), asks_for_help=True)
    overrides: dict[str, Override] = {}
    own: list[str] = []
    seen: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        match = re.fullmatch(r"--?([^=-][^=]*)(?:=(.*))?", argument, re.DOTALL)
        if match is None:
            raise ConfigError(
                f"{quoted(argument)} is not a flag: flags begin with --, and take their value after a =."
            )
        name, text = match.groups()
        if name.startswith(("config.", "noconfig.")) and "config" in flag_values:
            override = _parse_override(name, text, rest, settings)
            if override.name in overrides:
                raise ConfigError(f"--config.{override.name} is given twice; give it once.")
            overrides[override.name] = override
            continue
        flag = _find_flag(name, flag_values, settings)
        if flag.name in seen and not flag.allow_overwrite_by_many:
            raise ConfigError(f"--{flag.name} is given twice; give it once.")
        seen.add(flag.name)
        if text is not None and name != flag.name:
            raise ConfigError(f"--{name} is written without a value.")
        if text is None and not flag.is_boolean:
            text = next(rest, None)
            if text is None:
                raise ConfigError(f"Missing value for flag --{name}.")
        if text is not None:
            _check_number(flag, text, flag_values)
        own.append(f"--{name}" if text is None else f"--{name}={text}")
    try:
        flag_values([argv[0], *own])
    except (flags.Error, ValueError) as error:
        raise ConfigError(_explain(str(error))) from error
    return Arguments(tuple(overrides.values()), asks_for_help=False)


def group_of(name: str, settings: Mapping[str, Setting]) -> str | None:
    """Finds the group of settings that an override sets something in; None for a setting of its own.

    Args:
      name: of what is set, dotted.
      settings: all by dotted name.
    """
    parts = name.split(".")
    above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((group for group in above if group in settings and settings[group].is_group), None)


def parse_value(path: str, text: str, setting: Setting) -> Any:
    """Reads the value of a setting from its text; whether it is allowed is for the config to say.

    Args:
      path: the flag, for the sentence of an error.
      text: as it was given.
      setting: whose value it is.

    Raises:
      ConfigError: the text is of another kind.
    """
    kind = setting.field.type
    if setting.may_be_unset and text.lower() == "none":
        return None
    or_none = ", or none" if setting.may_be_unset else ""
    if kind in (int, int | None):
        return parse_whole_number(path, text, or_none)
    if kind in (float, float | None):
        return _parse_real_number(path, text, or_none)
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise _refusal(path, text, "it must be true or false")
        return text.lower() in ("true", "1")
    if kind is str:
        return text
    value = _parse_literal(path, text)
    if setting.is_group and not isinstance(value, Mapping):
        raise _refusal(path, text, "it must be a group of settings, such as {'name': 0.1}")
    return value


def parse_whole_number(path: str, text: str, or_else: str = "") -> int:
    """Reads a whole number: digits, with a sign before them or not.

    Args:
      path: the flag, for the sentence of an error.
      text: as it was given.
      or_else: ends that sentence, with what else may be given.

    Raises:
      ConfigError: it is none.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise _refusal(path, text, f"it must be a whole number{or_else}")
    return int(text)


def parse_whole_numbers(path: str, texts: Sequence[str], *, low: int) -> list[int]:
    """Reads the whole numbers of a list, each at least `low` and held by int32.

    Raises:
      ConfigError: one of them is none.
    """
    for text in texts:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= _INT32_MAX:
            raise ConfigError(
                f"{path} must be whole numbers with commas between, from {low} to {_INT32_MAX}; got {quoted(text)}."
            )
    return list(map(int, texts))


def _parse_real_number(path: str, text: str, or_else: str = "") -> float:
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        return float(text)
    except ValueError as error:
        raise _refusal(path, text, f"it must be a number{or_else}") from error


def _refusal(path: str, text: str, reason: str) -> ConfigError:
    return ConfigError(f"{path}={_shorten(text)} cannot be used: {reason}.")


def _shorten(text: str, longest: int = 100) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _parse_literal(path: str, text: str) -> Any:
    """The text as a value of Python, or itself where it is none."""
    try:
        value = ast.literal_eval(text.strip())
        tokens = list(tokenize.generate_tokens(io.StringIO(text.strip()).readline))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return text
    if any(token.type == tokenize.NUMBER and "_" in token.string for token in tokens):
        raise _refusal(path, text, "numbers have no underscores")
    return value


class _Flag(NamedTuple):
    """The properties of a flag by which arguments are read."""

    name: str
    is_boolean: bool
    allow_overwrite_by_many: bool


def _find_flag(name: str, flag_values: flags.FlagValues, settings: Mapping[str, Setting]) -> _Flag:
    """The flag that an argument names, `--quick` and `--noquick` being one."""
    if name.startswith("config."):
        raise ConfigError(f"--{name} needs --config=FILE, the config that it changes.")
    known = name if name in flag_values else name.removeprefix("no")
    if known not in flag_values or (known != name and not flag_values[known].boolean):
        own = "--config." if known in settings else ""
        hint = f"; did you mean {own}{known}?" if own else nearest(name, list(flag_values)) or "."
        raise ConfigError(f"--{name} is not a flag{hint}")
    flag = flag_values[known]
    return _Flag(flag.name, flag.boolean, isinstance(flag, flags.MultiFlag))


def _parse_override(name: str, text: str | None, rest: Any, settings: Mapping[str, Setting]) -> Override:
    """The setting that an argument gives; `rest` holds those after it."""
    negated = name.startswith("noconfig.")
    name = name.partition(".")[2]
    setting = settings.get(group_of(name, settings) or name)
    if setting is None or (negated and setting.field.type is not bool):
        hint = nearest(name, list(settings)) or f"; there are {list(settings)}."
        raise ConfigError(f"--config.{name} is not a setting{hint}")
    if text is None and setting.field.type is bool:
        text = "false" if negated else "true"
    if text is None:
        text = next(rest, None)
    if text is None:
        raise ConfigError(f"Missing value for flag --config.{name}.")
    path = f"--config.{name}"
    value = _parse_literal(path, text) if setting.name != name else parse_value(path, text, setting)
    return Override(name, text, value)


def _read_flag_files(arguments: Sequence[str], flag_values: flags.FlagValues) -> list[str]:
    """The arguments with those of each `--flagfile` in its place."""
    try:
        return flag_values.read_flags_from_files(arguments, force_gnu=True)
    except (flags.Error, OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"A --flagfile cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    text = str(error).removeprefix("ERROR:: Unable to open flagfile: ")
    return re.sub(r"^\[Errno \d+\] ", "", text) or type(error).__name__


def _check_number(flag: _Flag, text: str, flag_values: flags.FlagValues) -> None:
    """Refuses what absl takes for a number and nobody means as one."""
    parser, path = flag_values[flag.name].parser, f"--{flag.name}"
    if isinstance(parser, flags.IntegerParser):
        if parse_whole_number(path, text) > _INT32_MAX:
            raise _refusal(path, text, f"it must be at most {_INT32_MAX}")
    elif isinstance(parser, flags.FloatParser):
        number = _parse_real_number(path, text)
        if not math.isfinite(number):
            raise _refusal(path, text, "it must be a finite number")
        if number > _MOST_SECONDS:
            raise _refusal(path, text, f"it must be at most {_MOST_SECONDS:,} seconds")


def _explain(message: str) -> str:
    """Absl's message as a sentence that says what is allowed."""
    match = re.fullmatch(r"flag (--[^:]+?): (.*)", message, re.DOTALL)
    if match is None:
        return f"{message}."
    flag, reason = match.groups()
    if "Non-boolean" in reason:
        reason = "it must be true or false"
    return f"{_shorten(flag, 200)} cannot be used: {reason}."

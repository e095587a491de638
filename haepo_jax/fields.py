"""The kinds of settings: fields of a dataclass that know what they may be, and the way through them.

A field declared with `traced=True` is a number that a sweep may vary within one compiled program: inside
the program it is a traced scalar, so code may compute with it but not branch on it in Python.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

STATIC, TRACED, SWEEP, BOUNDS = "static", "traced", "sweep", "bounds"
"""Groups: settings that hold others of any name."""

OnlyWith = Mapping[str, tuple[str, ...]]
"""By the name of another setting of the same section, a choice: the values of it with which a setting is read."""


def number(
    default: float,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    traced: bool = True,
    only_with: OnlyWith = MappingProxyType({}),
) -> Any:
    """A real number with low <= x <= high and x > above."""
    bounds = {"low": low, "above": above, "high": high}
    return dataclasses.field(default=default, metadata=bounds | {"traced": traced, "only_with": only_with})


def optional_number(*, low: float = -math.inf, above: float = -math.inf, high: float = math.inf) -> Any:
    """As `number`, or unset, which is the default; whether it is set decides the program, its value does not."""
    return dataclasses.field(default=None, metadata={"low": low, "above": above, "high": high, "traced": True})


def is_coefficient(field: dataclasses.Field) -> bool:
    """Returns whether a setting is a real number that is traced: one that `number` or `optional_number` made."""
    return bool(field.metadata.get("traced")) and "above" in field.metadata


def count(
    default: int | None,
    *,
    low: int,
    high: int = 2**31 - 1,
    traced: bool = False,
    only_with: OnlyWith = MappingProxyType({}),
) -> Any:
    """A whole number with low <= n <= high; int32 holds no more than the default `high`."""
    return dataclasses.field(
        default=default, metadata={"low": low, "high": high, "traced": traced, "only_with": only_with}
    )


def choice(default: str, choices: tuple[str, ...], *, only_with: OnlyWith = MappingProxyType({})) -> Any:
    """One of these words."""
    return dataclasses.field(default=default, metadata={"choices": choices, "only_with": only_with})


def text(default: str) -> Any:
    """Any text."""
    return dataclasses.field(default=default)


def component(default: str, built_in: tuple[str, ...] = (), *, takes_arguments: bool | tuple[str, ...] = False) -> Any:
    """A built-in by its name, or one from outside as `package.module:attribute` (`haepo_jax.components`).

    The arguments of one from outside are in the groups `NAME_kwargs` and `NAME_params`, as far as there are such.

    Args:
      default: a built-in.
      built_in: all of them; none where only what makes them knows their names.
      takes_arguments: whether built-ins take arguments of these groups too, or which of them do.
    """
    names = {"choices": built_in} if built_in else {}
    return dataclasses.field(default=default, metadata={"component": True, "takes_arguments": takes_arguments} | names)


def components(built_in: tuple[str, ...]) -> Any:
    """Any number of components, each as of `component`; none by default."""
    return dataclasses.field(default=(), metadata={"components": True, "choices": built_in})


def numbers() -> Any:
    """Any number of finite real numbers, which decide the program; none by default."""
    return dataclasses.field(default=(), metadata={"numbers": True})


def static_arguments(*, hold_groups: bool = False) -> Any:
    """A group of arguments of a component, of any name, that decide the program: numbers, texts, tuples of such.

    Args:
      hold_groups: whether one of them may be a group of such itself.
    """
    return dataclasses.field(default_factory=dict, metadata={"group": STATIC, "hold_groups": hold_groups})


def traced_arguments(*, keep_whole: bool = False) -> Any:
    """A group of arguments of a component, of any name, that are traced scalars of the program.

    Args:
      keep_whole: whether 3 is int32 to the program; else each is float32.
    """
    return dataclasses.field(default_factory=dict, metadata={"group": TRACED, "keep_whole": keep_whole})


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Every setting as `(dotted name, value, field)`."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and "component" not in field.metadata:  # which a class may stand for
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field


def find_unread(settings: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Finds the settings of a section that are not read, as they belong to other values of a choice beside them.

    Returns:
      For each of them that choice, and the values of it that they belong to.

    Example:
      >>> from haepo_jax.methods import ReferenceConfig
      >>> find_unread(ReferenceConfig(reference="ema"))
      {'reference_period': ('reference', ('periodic',))}
    """
    return {
        field.name: (chooser, values)
        for field in dataclasses.fields(settings)
        for chooser, values in field.metadata.get("only_with", {}).items()
        if getattr(settings, chooser) not in values
    }


def is_empty(value: Any) -> bool:
    """Returns whether this is a section without settings, such as that of a method that has none."""
    return dataclasses.is_dataclass(value) and not dataclasses.fields(value)


def group_of(name: str, fields: Mapping[str, dataclasses.Field]) -> str | None:
    """Finds the group of arguments that a setting is one of.

    Args:
      name: of the setting, dotted.
      fields: those of all settings by dotted name.

    Example:
      >>> from haepo_jax.config.settings import FIELDS
      >>> group_of("optimizer.transform_params.b1", FIELDS)
      'optimizer.transform_params'
    """
    group, _, own = name.rpartition(".")
    return group if own and group in fields and fields[group].metadata.get("group") in (STATIC, TRACED) else None

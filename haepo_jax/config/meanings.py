"""Every setting with what it means: the text below its field, as `config_settings` and its like have it."""

import ast
import dataclasses
import functools
import inspect
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_KINDS: dict[Any, str] = {
    float: "number",
    float | None: "number",
    int: "whole number",
    int | None: "whole number",
    bool: "true or false",
    str: "text",
    tuple[int, ...]: "whole numbers",
    tuple[float, ...]: "numbers",
}
_INT32_MAX = 2**31 - 1


class Setting(NamedTuple):
    """A setting of a config."""

    name: str
    """Dotted."""
    default: Any
    field: dataclasses.Field
    meaning: str
    """A sentence or more, on one line."""
    is_swept: bool
    """Whether a sweep over its values compiles once."""

    @property
    def is_group(self) -> bool:
        """Whether it holds settings of any name."""
        return isinstance(self.default, Mapping)

    @property
    def may_be_unset(self) -> bool:
        """Whether it may be None, `none` as a flag."""
        return self.field.type in (int | None, float | None)

    @property
    def allowed(self) -> str:
        """Describes the values that it may have."""
        choices = f"one of {', '.join(self.field.metadata.get('choices', ()))}"
        if self.field.metadata.get("components"):
            return f"any of {', '.join(self.field.metadata['choices'])}, or package.module:attribute"
        if self.field.metadata.get("component"):
            return f"{choices if 'choices' in self.field.metadata else 'an id'}, or package.module:attribute"
        if "choices" in self.field.metadata:
            return choices
        kind = _KINDS.get(self.field.type, "group of settings" if self.is_group else "tuple")
        bounds = [
            f"{word} {self.field.metadata[key]:g}" if kind == "number" else f"{word} {self.field.metadata[key]}"
            for key, word in (("low", "at least"), ("above", "above"), ("high", "at most"))
            if math.isfinite(self.field.metadata.get(key, math.inf)) and self.field.metadata[key] != _INT32_MAX
        ]
        words = " ".join([kind, *(f"{'and ' if k else ''}{bound}" for k, bound in enumerate(bounds))])
        return f"{words}, or none" if self.may_be_unset else words


def settings_of(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Yields every setting of a config with its meaning.

    Example:
      >>> from haepo_jax.config.settings import ExperimentConfig
      >>> print(next(setting.meaning for setting in settings_of(ExperimentConfig()) if setting.name == "horizon"))
      T, the steps at which an episode is cut; the environment's own limit when unset.
    """
    kind: Any = type(config)
    meanings = _meanings(kind)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            meaning = field.metadata.get("meaning", meanings.get(field.name, ""))
            yield Setting(f"{prefix}{field.name}", value, field, meaning, bool(field.metadata.get("traced")))


@functools.cache
def _meanings(config: type) -> dict[str, str]:
    """The texts below the fields of a class and of those that it is made of."""
    meanings: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            meanings |= _of_module(base.__module__).get(base.__name__, {})
    return meanings


@functools.cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """The texts below the fields of each class of a module."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {
        node.name: {
            field.target.id: " ".join(text.value.value.split())
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }

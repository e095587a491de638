"""The fields of a `config.json`, read with a check of each."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError, quoted
from haepo_jax.language.config import LARGEST, MOST
from haepo_jax.text import visible


class Fields:
    """The fields of a JSON object; one that is missing or cannot be used is refused by file and name."""

    def __init__(self, path: Path, values: Mapping[str, Any], section: str = "") -> None:
        """Takes the values; one that is null counts as missing."""
        self.path = path
        self._nulls = frozenset(name for name, value in values.items() if value is None)
        self._values = {name: value for name, value in values.items() if value is not None}
        self._section = section

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the fields that have a value."""
        return iter(self._values)

    def __contains__(self, name: str) -> bool:
        """Returns whether there is a value."""
        return name in self._values

    def get(self, name: str) -> Any:
        """Returns the value, None where there is none."""
        return self._values.get(name)

    def refusal(self, name: str, allowed: str) -> ConfigError:
        """Makes the error for a value."""
        given = f"is {quoted(self._values[name])}" if name in self._values else "is missing"
        return ConfigError(f"{self.path}: {self._section}{visible(name)} {given}; {allowed}.")

    def count(self, name: str, default: int | None = None, *, high: int = MOST) -> int:
        """Reads a whole number above 0, and not above `high`."""
        value = self._values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refusal(name, "it must be a whole number above 0")
        if value > high:
            raise self.refusal(name, f"it must be at most {high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Reads a number above 0, which float32 holds."""
        value = self._values.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise self.refusal(name, "it must be a number above 0")
        if value > LARGEST:
            raise self.refusal(name, f"it must be at most {LARGEST:g}")
        return float(value)

    def optional_count(self, name: str, default: int | None) -> int | None:
        """Reads a whole number above 0, or None where it is null."""
        return None if name in self._nulls or (name not in self and default is None) else self.count(name, default)

    def optional_number(self, name: str, default: float | None) -> float | None:
        """Reads a number above 0, or None where it is null."""
        return None if name in self._nulls or (name not in self and default is None) else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """Reads a boolean."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, "it must be true or false")
        return value

    def word(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """Reads one of `choices`."""
        value = self._values.get(name, default)
        if value not in choices:
            raise self.refusal(name, f"supported: {', '.join(choices)}")
        return str(value)

    def words(self, name: str) -> list[str]:
        """Reads a list of strings, empty where there is none."""
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refusal(name, "it must be a list of strings")
        return value

    def flags(self, name: str, count: int) -> tuple[bool, ...] | None:
        """Reads a list of so many truth values, written as booleans or as 0 and 1; None where there is none."""
        if name not in self:
            return None
        values = self._values[name]
        if not isinstance(values, list) or len(values) != count or any(value not in (0, 1) for value in values):
            raise self.refusal(name, f"it must be a list of {count} times 0 or 1, one for each layer")
        return tuple(bool(value) for value in values)

    def section(self, name: str) -> "Fields":
        """Reads the object of this name, empty where there is none."""
        values = self._values.get(name, {})
        if not isinstance(values, dict):
            raise self.refusal(name, "it must be an object")
        return Fields(self.path, values, f"{self._section}{name}.")

    def allow(self, known: Sequence[str]) -> None:
        """Refuses fields that are not among these."""
        for name in self._values:
            if name not in known:
                raise self.refusal(name, f"fields that are supported here: {', '.join(known)}")

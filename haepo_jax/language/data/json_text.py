"""JSON of unknown origin: whatever is wrong with it is a `ValueError` in plain words."""

import json
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError


def loads(text: bytes | str) -> Any:
    """Parses JSON.

    Args:
      text: characters, or UTF-8 with or without a byte order mark.

    Raises:
      ValueError: it is not valid JSON; a `json.JSONDecodeError` where a place in it is to blame.
    """
    try:
        return json.loads(text)
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:  # Python's bound on the digits of a number, the only other one
        raise ValueError("a number in it has too many digits") from None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
      ConfigError: the file cannot be read, or does not hold one.
    """
    try:
        values = loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a JSON object.")
    return values

"""Results that are no runs: computed once and kept with a checksum; computed again alone when they are damaged or what
they are computed from has changed.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.runs.files import StrPath
from haepo_jax.runs.folder import set_aside, storage_errors, write_json
from haepo_jax.runs.json_files import format_json, read_json


def load_or_compute(directory: StrPath, name: str, compute: Callable[[], Any], *, inputs: Any = None) -> Any:
    """Loads plain data, which is computed once and stored as `DIRECTORY/computed/NAME.json` with a checksum.

    Args:
      directory: of the whole study.
      name: of the file.
      compute: gives the data, as JSON can hold it; called unless the file is whole and of the same inputs.
      inputs: what the data depend on besides the code, as JSON can hold it, such as the settings that were chosen.

    Returns:
      The data as JSON gives it back.

    Raises:
      StorageError: the folder could not be written to any more.
    """
    path, inputs = Path(directory) / "computed" / f"{name}.json", json.loads(format_json(inputs))
    try:
        if os.path.lexists(path):
            stored = read_json(path, {"sha256": str, "value": object})
            if stored["sha256"] != _hash(stored["value"]):
                set_aside(path, ConfigError(f"{path} is damaged: its checksum does not hold."))
            elif stored.get("inputs") == inputs:
                return stored["value"]
    except ConfigError as error:
        set_aside(path, error)
    print(f"{name}: measuring", flush=True)
    value = json.loads(format_json(compute()))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"sha256": _hash(value), "inputs": inputs, "value": value})
    return value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

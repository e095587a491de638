"""The checksums of a model's folder that we wrote, and what a later stage must know of the model.

They lie in `haepo_jax.json` beside the model's files. A folder from elsewhere has none, and is taken as it is.
"""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.json_text import read_object
from haepo_jax.runs.folder import write_json

SEAL = "haepo_jax.json"


def checksum(path: Path) -> int:
    """Computes the CRC-32 of a file.

    Raises:
      ConfigError: it cannot be read.
    """
    value = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                value = zlib.crc32(piece, value)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return value


def seal(folder: Path, files: Iterable[str], known: Mapping[str, int], facts: Mapping[str, Any]) -> None:
    """Writes the checksums of a folder's files.

    Args:
      folder: holds the files.
      files: their names.
      known: checksums of files that are yet to be written, by name.
      facts: what later stages must know of the model, by name.
    """
    sums = {name: checksum(folder / name) for name in files} | dict(known)
    write_json(folder / SEAL, {"checksums": sums, "facts": dict(facts)})


def check(folder: Path) -> Mapping[str, Any]:
    """Compares the files of a folder with their checksums.

    Args:
      folder: of a model.

    Returns:
      The facts that were written with the model; none for a folder from elsewhere.

    Raises:
      ConfigError: a file is missing or is not the one that was written; it is named.
    """
    path = folder / SEAL
    if not path.is_file():
        return {}
    sealed = read_object(path)
    sums, facts = sealed.get("checksums"), sealed.get("facts")
    if not isinstance(sums, dict) or not isinstance(facts, dict):
        raise ConfigError(f"{path} is damaged: checksums and facts must be objects.")
    for name, expected in sums.items():
        if not is_plain_name(name):
            raise ConfigError(f"{path} is damaged: {name!r} is not the name of a file in this folder.")
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}, which was written with the model.")
        if checksum(folder / name) != expected:
            raise ConfigError(
                f"{folder / name} is damaged: its checksum is not the one in {SEAL}; if you changed the file "
                f"yourself, delete {SEAL}."
            )
    return facts


def is_whole(folder: Path) -> bool:
    """Returns whether all files of a model's folder are there, be they damaged or not."""
    if not (folder / "config.json").is_file():
        return False
    if not (folder / SEAL).is_file():
        return any(folder.glob("*.safetensors"))
    sums = read_object(folder / SEAL).get("checksums")
    return isinstance(sums, dict) and all((folder / name).is_file() for name in sums)


def is_plain_name(name: str) -> bool:
    """Returns whether this is the name of a file in a folder, on any system, and no path that leads out of it.

    Example:
      >>> is_plain_name("model.safetensors"), is_plain_name("../model"), is_plain_name("..")
      (True, False, False)
    """
    return name not in ("", ".", "..") and name.isprintable() and not set(name) & {"/", "\\"}
